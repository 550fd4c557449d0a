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
    Check whether the reachable Sentinels suffice to agree that the master is
    down (quorum) and to authorize a failover (majority of the known ones).
CONFIG SET param value [param value ...]
    Change parameters of this Sentinel; all of them or none.
CONFIG GET <param> [param param param ...]
    Return the parameters of this Sentinel that match the patterns.
DEBUG [<param> <value> ...]
    Return the periods and timeouts in milliseconds, or change some of them
    until the next start.
GET-MASTER-ADDR-BY-NAME <master-name>
    Return the present IP address and port of the master of this name.
FAILOVER <master-name>
    Start a failover of this master without requester the other Sentinels.
FLUSHCONFIG
    Save the configuration file with the present state, even if nothing
    changed.
INFO-CACHE <master-name>
    Return the last INFO of the master and of each replica, and its age.
IS-MASTER-DOWN-BY-ADDR <ip> <port> <current-epoch> <runid>
    Return whether this Sentinel considers the master at the address down,
    and request its vote unless <runid> is an asterisk.
MASTER <master-name>
    Return the state of one master.
MASTERS
    Return the state of all masters.
MONITOR <name> <ip> <port> <quorum>
    Start to monitor a master under this name.
MYID
    Return the ID of this Sentinel.
PENDING-SCRIPTS
    Return the running and the waiting scripts.
REMOVE <master-name>
    Stop monitoring this master and remove its state.
REPLICAS <master-name>
    Return the state of the replicas of a master.
RESET <pattern>
    Remove the replicas, Sentinels and state of the masters whose names match.
SENTINELS <master-name>
    Return the state of the other Sentinels of a master.
SET <master-name> <option> <value> [<option> <value> ...]
    Change options of a monitored master.
SIMULATE-FAILURE [CRASH-AFTER-ELECTION] [CRASH-AFTER-PROMOTION] [HELP]
    Make this Sentinel crash at that point of its next failover.
""",
)

TXSENTINEL: Final = help_lines(
    "TXSENTINEL",
    """
ACK <record-id>|<group-id> [<comment>]
    Record that this failover was seen, with the user, and end the block of
    further failovers, here and at the other Sentinels of this kind.
ADMIT <master-name> <sentinel-id> <epoch> <milliseconds>
    Permit to vote for a candidate although failovers are paused. Sentinels
    send it to each other.
AGREE <master-name>
    Return what this Sentinel holds of the master, to compare Sentinels:
    address, epochs, a hash of the options, wall clock.
CANCEL <operation-id>
    Cancel a switchover whose promotion was not ordered yet.
DOCTOR [<master-name>]
    Return the state of storage, descriptors, scripts and TILT, and of each
    link with its failures.
DRAIN <host> [<port>] [WAIT <ms>] [PARK <ms>] [UNDO] [DRYRUN] [PARALLEL]
    Move the masters away from a host that is about to be stopped, and exclude
    its servers from promotion meanwhile.
EXPLAIN <master-name> [JOURNAL <records>]
    Return why the master is, or is not, failed over: verdict, evidence, votes,
    fitness of the replicas, timers, and what would let a failover start.
FORGET <master-name>|* (NODE <host> <port>|ID <sentinel-id>) [FOR <ms>] [FORCE]
       [RESETC]
    Remove a replica or Sentinel that does not exist any more, here and at the
    other Sentinels of this kind; with RESETC, C Sentinels are reset one after
    the other, at least 30 s apart, before the reply.
HISTORY [<master-name>|* [<failovers>]]
    Return the latest failovers, newest first, 10 unless a number is given:
    phases with their times, votes, the choice of the replica, lost data.
HOLDING <master-name> <host> <port> <ms>
    Note that another Sentinel holds the writes of a server for a switchover;
    sent by that Sentinel.
LEAVING <ms> <sentinel-id> [<sentinel-id> ...]
    Note that Sentinels are about to be stopped, so that others take over what
    they do; with 0 they stay. Sent by the Sentinel that drains their host.
OPERATION <operation-id>
    Return a switchover that was ordered here: state, steps, receipt.
OPERATIONS
    Return all of them, newest first.
PARK <host> <port>|* FOR <ms> AT <unix-ms> <request-id> [BY <who>]
    Exclude the servers of a host from promotion here; sent by the Sentinel
    that drains the host.
PAUSE <master-name>|* FOR <milliseconds> [SCOPE failover|hands-off]
    [REASON <text>] [REQUIRE guaranteed|best-effort]
    Start no failovers by themselves, here and on the other Sentinels, for a
    day at most. C Sentinels are kept from it by their votes.
PAUSED [<master-name>]
    Return the pauses in force, and whether a failover is possible all the same.
RELOAD
    Read secrets, certificates and the ACL file again, as SIGHUP does.
REJECTING <master-name> <operation-id> <requested-unix-ms> <until-unix-ms>
    <withdrawn> <by> <host>:<port> [<name>=<value> ...]
    Store the settings of a server that rejects writes for a switchover of
    another Sentinel, to restore them; sent by that Sentinel.
RESUME <master-name>|*
    End pauses, here and on the other Sentinels.
SCHEDULE <master-name> <operation-id> <requested-unix-ms> <until-unix-ms>
    <withdrawn> <by> <comment> [<name>=<value> ...]
    Store a scheduled switchover of another Sentinel; sent by that Sentinel.
SWITCHOVER <master-name> [TO <host> <port>] [AT <unix-ms>]
    [METHOD (AUTO|HANDOVER|FENCE|REJECT)] [TIMEOUT <ms>] [MAXLAG <bytes>]
    [MAXPAUSE <ms>] [DRYRUN] [COMMENT <text>]
    [EXPECT <host> <port> <config-epoch>] [KEY <idempotency-key>]
    Replace a healthy master by a replica without losing a write. Return the
    operation when its conditions were tested; with DRYRUN nothing is done.
UNPARK <host> <port>|* [BY <who>]
    Permit the promotion of the servers of a host again here; sent by the
    Sentinel that undoes a drain.
""",
)

CLIENT: Final = help_lines(
    "CLIENT",
    """
CACHING (YES|NO)
    Select whether the keys of the next command are tracked.
GETREDIR
    Return the client ID that invalidation messages are redirected to.
GETNAME
    Return the name of the connection.
ID
    Return the ID of the connection.
INFO
    Return information about the connection.
KILL <ip:port>
    Close the connection from this address.
KILL <option> <value> [<option> <value> [...]]
    Close all connections that match every option. Options:
    * ADDR (<ip:port>|<unixsocket>:0)
      The remote address.
    * LADDR (<ip:port>|<unixsocket>:0)
      The local address.
    * IP <ip>
      The remote IP address with any port.
    * ID <client-id> [<client-id>...]
      One of these IDs.
    * TYPE (NORMAL|PRIMARY|REPLICA|PUBSUB)
      The type of the client.
    * USER <username>
      The user that the connection is authenticated as.
    * NAME <client-name>
      The name set by CLIENT SETNAME.
    * LIB-NAME <library-name>
      The name of the client library.
    * LIB-VER <library-version>
      The version of the client library.
    * FLAGS <flags>
      All of these flags, by the letters of CLIENT LIST.
    * CAPA <capa>
      All of these client capabilities.
    * DB <db-id>
      The selected database.
    * MAXAGE <maxage>
      Connected for at least so many seconds.
    * IDLE <idle>
      Idle for at least so many seconds.
    * SKIPME (YES|NO)
      Skip the connection that sends the command (default: yes).
    NOT- before any but the last three options negates it.
LIST [options ...]
    Return information about all connections, or about those that match. The
    options are those of KILL; SKIPME is no by default.
UNPAUSE
    End a pause.
PAUSE <timeout> [WRITE|ALL]
    Suspend the commands of all clients for <timeout> milliseconds.
REPLY (ON|OFF|SKIP)
    Enable or disable replies, or skip the reply to the next command.
SETNAME <name>
    Set the name of the connection.
SETINFO <option> <value>
    Describe the client library. Options:
    * LIB-NAME
      Its name.
    * LIB-VER
      Its version.
UNBLOCK <clientid> [TIMEOUT|ERROR]
    Unblock a client that waits in a blocking command.
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
    Enable or disable client-side caching.
TRACKINGINFO
    Return the options of TRACKING.
NO-EVICT (ON|OFF)
    Protect the connection from eviction by maxmemory-clients.
""",
)

COMMAND: Final = help_lines(
    "COMMAND",
    """
(no subcommand)
    Return information about all commands.
COUNT
    Return the number of commands.
LIST
    Return the names of all commands, or of those selected by FILTERBY MODULE
    <module-name>, FILTERBY ACLCAT <category> or FILTERBY PATTERN <pattern>.
INFO [<command-name> ...]
    Return information about the named commands, or about all.
DOCS [<command-name> ...]
    Return the documentation of the named commands, or of all.
GETKEYS <full-command>
    Extract the key names from a command.
GETKEYSANDFLAGS <full-command>
    Extract the key names and their access flags from a command.
""",
)

ACL: Final = help_lines(
    "ACL",
    """
CAT [<category>]
    List the categories of commands, or the commands in one of them.
DELUSER <username> [<username> ...]
    Delete users and close their connections.
DRYRUN <username> <command> [<arg> ...]
    Check whether a user may execute a command, without executing it.
GETUSER <username>
    Return the permissions of a user.
GENPASS [<bits>]
    Generate a random password of 256 or the given number of bits.
LIST
    Return all users as lines of an ACL file.
LOAD
    Reload the ACL file; all of it or nothing.
LOG [<count>|RESET]
    Return the latest denied logins and commands, newest first, or clear them.
SAVE
    Save the users to the ACL file.
SETUSER <username> <rule> [<rule> ...]
    Create a user or change an existing one, by all of the rules or none.
USERS
    List the names of all users.
WHOAMI
    Return the user name of the connection.
""",
)
