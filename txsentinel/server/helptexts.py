"""The replies of the HELP subcommands: for each subcommand a syntax line and an indented description."""

from __future__ import annotations

from typing import Final

from txsentinel.wire.resp import Simple, text


def wrong_form(container: str, subcommand: bytes) -> str:
    """Return the error text for a number of arguments that is valid only with other words."""
    shown = text(subcommand[:128])
    return f"ERR unknown subcommand or wrong number of arguments for '{shown}'. Try {container} HELP."


def help_lines(container: str, body: str) -> list[Simple]:
    """Return the reply lines of a help text, between the fixed first and last entries."""
    first = f"{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    lines = (first, *body.strip("\n").split("\n"), "HELP", "    Show this text.")
    return [Simple(line) for line in lines]


SENTINEL: Final = help_lines(
    "SENTINEL",
    """
CKQUORUM <master-name>
    Tell whether enough Sentinels can be reached to agree that the master is
    down (the quorum) and to elect one of them to fail it over (the majority
    of all that are known).
CONFIG SET param value [param value ...]
    Change parameters of this Sentinel itself; all of them or none.
CONFIG GET <param> [param param param ...]
    Show the parameters of this Sentinel that match the patterns.
DEBUG [<param> <value> ...]
    Show the periods and time limits in force, in milliseconds, or change
    some of them until the next start.
GET-MASTER-ADDR-BY-NAME <master-name>
    Tell IP address and port of the master that goes by this name now.
FAILOVER <master-name>
    Promote a replica of this master at once, without asking the other
    Sentinels.
FLUSHCONFIG
    Write the configuration file, with all that is known, even if nothing
    changed.
INFO-CACHE <master-name>
    Show the last INFO of the master and of each replica, and its age.
IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>
    Tell whether this Sentinel takes the master at the address for down, and
    ask for its vote unless <runid> is a star.
MASTER <master-name>
    Show everything known of one master.
MASTERS
    Show everything known of every master.
MONITOR <name> <ip> <port> <quorum>
    Watch one more master, under this name.
MYID
    Tell the ID of this Sentinel.
PENDING-SCRIPTS
    Show the scripts that run or wait to be run.
REMOVE <master-name>
    Watch this master no more, and forget it.
REPLICAS <master-name>
    Show everything known of the replicas of a master.
RESET <pattern>
    Forget replicas, Sentinels and state of the masters whose names match.
SENTINELS <master-name>
    Show everything known of the other Sentinels that watch a master.
SET <master-name> <option> <value> [<option> <value> ...]
    Change how a master is watched and failed over.
SIMULATE-FAILURE [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]
    Have this Sentinel crash at that point of its next failover.
""",
)

CLIENT: Final = help_lines(
    "CLIENT",
    """
CACHING (YES|NO)
    Say whether the keys of the next command are to be tracked.
GETREDIR
    Tell the ID of the connection that invalidations are sent to.
GETNAME
    Tell the name of this connection.
ID
    Tell the ID of this connection.
INFO
    Describe this connection.
KILL <ip:port>
    Close the connection that comes from there.
KILL <option> <value> [<option> <value> [...]]
    Close all connections that fit. Options:
    * ADDR (<ip:port>|<unixsocket>:0)
      Those that come from there.
    * LADDR (<ip:port>|<unixsocket>:0)
      Those that were accepted there.
    * IP <ip>
      Those that come from this address, whatever the port.
    * ID <client-id> [<client-id>...]
      Those with these IDs.
    * TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)
      Those of a kind.
    * USER <username>
      Those logged in as this user.
    * NAME <client-name>
      Those that gave themselves this name.
    * LIB-NAME <library-name>
      Those of a client library of this name.
    * LIB-VER <library-version>
      Those of a client library of this version.
    * FLAGS <flags>
      Those with all of these flags, by the letters of CLIENT LIST.
    * CAPA <capa>
      Those that said that they can do all of this.
    * DB <db-id>
      Those in this database.
    * MAXAGE <maxage>
      Those connected for so many seconds, or longer.
    * IDLE <idle>
      Those silent for so many seconds, or longer.
    * SKIPME (YES|NO)
      Leave out the asking connection; yes, unless said otherwise.
    NOT- before any but the last three means all others.
LIST [options ...]
    Describe all connections, or those that fit. Options are those of KILL,
    but SKIPME is no, unless said otherwise.
UNPAUSE
    End a pause early.
PAUSE <timeout> [WRITE|ALL]
    Have the commands of all clients wait for <timeout> milliseconds.
REPLY (ON|OFF|SKIP)
    Switch replies on or off, or leave out the next one.
SETNAME <name>
    Name this connection.
SETINFO <option> <value>
    Name the client library. Options:
    * LIB-NAME
      Its name.
    * LIB-VER
      Its version.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    End the waiting of a blocked client.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
    Ask to be told of keys that change.
TRACKINGINFO
    Show what was asked for with TRACKING.
NO-EVICT (ON|OFF)
    Keep this connection when memory runs short.
""",
)

COMMAND: Final = help_lines(
    "COMMAND",
    """
(no subcommand)
    Describe all commands.
COUNT
    Tell how many commands there are.
LIST
    List the names of all commands, or with FILTERBY MODULE <module-name>,
    FILTERBY ACLCAT <category> or FILTERBY PATTERN <pattern> of those that fit.
INFO [<command-name> ...]
    Describe the commands named, or all.
DOCS [<command-name> ...]
    Document the commands named, or all.
GETKEYS <full-command>
    Tell the keys in a command.
GETKEYSANDFLAGS <full-command>
    Tell the keys in a command, and what is done to them.
""",
)

ACL: Final = help_lines(
    "ACL",
    """
CAT [<category>]
    List the categories of commands, or the commands of one of them.
DELUSER <username> [<username> ...]
    Delete users, and close their connections.
DRYRUN <username> <command> [<arg> ...]
    Tell whether a user may run a command, without running it.
GETUSER <username>
    Show what is known of a user.
GENPASS [<bits>]
    Make up a password, of 256 bits unless told otherwise.
LIST
    Show all users as lines of an ACL file.
LOAD
    Take over what the ACL file says now, all of it or nothing.
LOG [<count>|RESET]
    Show what was refused lately, the last first, or forget it.
SAVE
    Write the users to the ACL file.
SETUSER <username> <rule> [<rule> ...]
    Make a user, or change an existing one, by all of the rules or none.
USERS
    List the names of all users.
WHOAMI
    Tell whom this connection is logged in as.
""",
)
