"""All accepted differences from the C Sentinels, and between their versions, with reasons."""

from __future__ import annotations

import re
from dataclasses import dataclass

from txsentinel.config.guards import GUARD_SETTINGS


@dataclass(frozen=True)
class AcceptedDifference:
    """
    An accepted difference.

    ``case`` is searched for in the case's full name; ``theirs`` and ``ours`` must match the differing lines of each
    side as a whole (empty: no lines). ``servers`` limits the C Sentinels.
    """

    reason: str
    case: str
    theirs: str = ""
    ours: str = ""
    servers: str = "valkey redis"

    def explains(self, server: str, case: str, theirs: str, ours: str) -> bool:
        """Whether this is the difference."""
        return (
            server in self.servers.split()
            and re.search(self.case, case) is not None
            and re.fullmatch(self.theirs, theirs, re.DOTALL) is not None
            and re.fullmatch(self.ours, ours, re.DOTALL) is not None
        )


ANY = ".*"
SOME = ".+"
UNKNOWN = r"0?: -ERR unknown (sub)?command .*"
CONTROL = r"0: -ERR Invalid argument at index \d for SENTINEL \w+( \w+)?: control characters are not allowed"
ONLY_ONE_OPTION = r"0: -ERR Only SENTINEL CONFIG GET <option> / SET <option> <value> are supported\."
NEW_IN_72 = "7.2 has it, 7.0 does not"
VALKEY_9 = "Valkey 9 has it, no Redis does"
OLD_REDIS = "redis"
NEW_VALKEY = "valkey"

OWN_SETTINGS = "|".join(setting.word for setting in GUARD_SETTINGS)
OWN_FIELDS = rf"((0|\[\w+\])\.(({OWN_SETTINGS}): \$[\w-]+|last-failure-\w+: \$.*)\n?)+"

DELIBERATE: tuple[AcceptedDifference, ...] = (
    # Behaviour that differs on purpose.
    AcceptedDifference(
        "the settings that C does not have, and the last failure, are the last fields of an instance",
        "(?i)sentinel (masters?|primary|primaries|slaves|replicas|sentinels)( |$)",
        "",
        OWN_FIELDS,
    ),
    AcceptedDifference(
        "QUIT answers and closes, as everywhere but in newer Sentinels; clients still send it",
        "(connection/quit|protocol/closing)",
        UNKNOWN + "|0: \\+PONG|" + UNKNOWN + "\n1: \\+PONG",
        r"0: \+OK\n1: <closed>|0: <closed>",
    ),
    AcceptedDifference(
        "a quorum beyond the sign bit is kept and shown as it is, not as a negative number",
        "changes/monitor-forms.*!events",
        r"\+monitor master top .* quorum -1",
        r"\+monitor master top .* quorum 4294967295",
    ),
    AcceptedDifference(
        "a port that does not fit is refused, not cut to what fits",
        "changes/monitor@.*4294967297",
        r"0: \+OK",
        r"0: -ERR Invalid port number\.",
    ),
    AcceptedDifference(
        "then SENTINEL REMOVE finds no such master",
        "changes/monitor@.*SENTINEL REMOVE bad$",
        r"0: \+OK",
        "0: -ERR No such master with that name",
    ),
    AcceptedDifference(
        "then there are no events about it",
        "changes/monitor@.*!events",
        r"\+monitor master bad [^\n]*\n-monitor master bad [^\n]*",
    ),
    AcceptedDifference(
        "no server can listen on port 0, so it is refused as a port",
        "changes/.*SENTINEL MONITOR closed",
        r"0: \+OK",
        r"0: -ERR Invalid port number\.",
    ),
    AcceptedDifference(
        "a master that was refused is not found or removed",
        "changes/.*SENTINEL (GET-MASTER-ADDR-BY-NAME|REMOVE) closed",
        SOME,
        r"0: (\* null|_|-ERR No such master with that name)",
    ),
    AcceptedDifference(
        "a master that was refused has no events",
        "changes/.*!events",
        r"\+monitor master closed [^\n]*\n-monitor master closed [^\n]*",
    ),
    AcceptedDifference(
        "an epoch that no election can have reached is refused: it would prevent all later failovers",
        "moves/absurd.* -1 ",
        r"0\[1\]: \$9a+.*",
        r"0\[1\]: \$\*.*",
    ),
    AcceptedDifference(
        "a refused epoch has no events",
        "moves/absurd.*!events",
        r"\+new-epoch 18446744073709551615\n\+vote-for-leader .* 18446744073709551615",
    ),
    AcceptedDifference(
        "a hello with an invalid port or ID registers no Sentinel",
        "moves/absurd.*!events",
        r"(\+sentinel[^\n]*\n?)+",
    ),
    AcceptedDifference(
        "an unknown candidate gets no vote: the reply is the last one",
        "moves/votes.* 6 abc",
        r"0\[1\]: \$abc\n0\[2\]: :6",
        r"0\[1\]: \$2222.*\n0\[2\]: :5",
    ),
    AcceptedDifference(
        "a Sentinel that does not monitor this master is unknown, too",
        "moves/votes.*{gone} 8",
        r"0\[1\]: \$9a9a.*\n0\[2\]: :8",
        r"0\[1\]: \$\*\n0\[2\]: :0",
    ),
    AcceptedDifference(
        "a refused vote has no event, and the epoch of its request is not adopted",
        "moves/votes.*!events",
        r"\+new-epoch [68]\n\+vote-for-leader \S+ [68]",
    ),
    AcceptedDifference(
        "a forced failover that no majority confirmed takes an epoch that no other Sentinel would take; nor is a master"
        " flagged down because of a forced failover",
        "moves/failover.*!events",
        r"(-sdown master mymaster [^\n]*\n)?\+vote-for-leader 5e5e\S+ 9",
        r"\+vote-for-leader 5e5e\S+ 6\n\+new-epoch 8\n\+vote-for-leader 5e5e\S+ 8",
    ),
    AcceptedDifference(
        "the first epoch follows the last one that was adopted (see above)",
        "moves/failover.*!events",
        r"\+new-epoch 9",
        r"\+new-epoch 6",
    ),
    AcceptedDifference(
        "that is the epoch of the new configuration",
        "moves/failover.*SENTINEL MASTER",
        r"0\.config-epoch: \$9",
        r"0\.config-epoch: \$8",
    ),
    AcceptedDifference(
        "the name of the program",
        "INFO",
        "",
        r"0?\| (server_name:txsentinel|txsentinel_(version|build):\S+)",
    ),
    AcceptedDifference(
        "tokens are documented, so redis-cli can complete them",
        "command/docs",
        "",
        r"[^\n]*simulate-failure\.arguments\[mode\]\.arguments\[[\w-]+\]\.token: [^\n]*",
    ),
    AcceptedDifference(
        "the complexity of a command is that of our implementation",
        "command/docs",
        r"([^\n]*(publish|shutdown|flushconfig|unblock|getkeys(andflags)?|deluser)\.complexity: [^\n]*)?",
        r"[^\n]*(publish|shutdown|flushconfig|unblock|getkeys(andflags)?|deluser|pending-scripts|simulate-failure"
        r"|ckquorum|failover)\.complexity: [^\n]*",
    ),
    # Reading and writing configurations.
    AcceptedDifference(
        "a rewrite changes the lines of Sentinel and changed settings, not other generic lines",
        "^configuration/|!file",
        r"((dir <dir>|latency-tracking-info-percentiles 50 99 99\.9|protected-mode no"
        r"|user default on nopass ~\* &\* \+@all)\n?)+",
    ),
    AcceptedDifference(
        "generic lines stay as they were written",
        r"^configuration/(accepted|grammar: (PORT|bind 127|client-output-buffer-limit$))",
        r"[^\n]*",
        r"(PORT|port|dir|bind|loglevel|hz|save|io-threads|slave-priority|client-\w+-buffer-limit|requirepass"
        r"|proto-max-bulk-len) ?[^\n]*",
    ),
    AcceptedDifference(
        "generic lines stay as they were written",
        "^configuration/(accepted|grammar: client-output-buffer-limit$)",
        r"((replica-priority 10|client-output-buffer-limit (normal 0 0 0|replica 256mb 64mb 60)|hz 10|loglevel debug"
        r"|user default on (sanitize-payload )?#[0-9a-f]{64} ~\* &\* \+@all)\n?)+",
    ),
    AcceptedDifference(
        "a file with NUL bytes is refused: the rest may lack masters or votes",
        "^configuration/torn",
        "(runs\n|>>> ).*",
        r"(exit status 1\n|>>> ).* has NUL bytes in it .*",
    ),
    AcceptedDifference(
        "a number with something else behind it, such as 5s or 51%, is refused by name, not read by its leading digits",
        "^configuration/",
        r"runs\n.*|Quorum must be 1 or greater\.|negative or zero time parameter\.",
        r"(exit status 1\n.*\n)?'[^'\n]*' is not (a whole number( of [a-zA-Z]+)?|a port number|an epoch)\.",
    ),
    AcceptedDifference(
        "a port above 65535 cannot be connected to",
        "^configuration/own: sentinel announce-port 70000",
        r"runs\n.*",
        r"exit status 1\n.*\nInvalid port number\.",
    ),
    AcceptedDifference(
        "unknown lines are kept, too",
        r"^configuration/grammar: foo\.bar 1",
        r"# \?\?\? foo\.bar 1|",
        r"|foo\.bar 1",
    ),
    AcceptedDifference(
        "a word that is no address is not resolved without resolve-hostnames, so nothing is logged",
        "^configuration/",
        "Failed to resolve hostname '.*'",
    ),
    AcceptedDifference(
        "we voted in the epoch of the leader, so it is the current one",
        "^configuration/per-master.*leader-epoch m 7$",
        "sentinel current-epoch 0",
        "sentinel current-epoch 7",
    ),
    AcceptedDifference(
        "duplicate lines count once: the C Sentinels write such files themselves",
        "^configuration/known",
        r"exit status 1\n.*\nDuplicate (hostname and port for replica|runid for sentinel)\.",
        r"runs\n.*",
    ),
    AcceptedDifference(
        "a master is not its own replica",
        "^configuration/known",
        r"sentinel known-replica m 127\.0\.0\.1 1",
    ),
    AcceptedDifference(
        "one spelling is written, which every version reads, in place of any",
        "^configuration/(per-master|known)|!file",
        r"sentinel (primary-reboot-down-after-period (m 5000|gone 5)|master-reboot-down-after-period m 0"
        r"|known-slave m 127\.0\.0\.1 2)(\nuser default .*)?|",
        r"|sentinel master-reboot-down-after-period (m 5000|gone 5)",
    ),
    AcceptedDifference(
        "words with special characters are quoted, so that they are read unchanged",
        "^configuration/|!file",
        r"sentinel (sentinel-pass two words|auth-pass (m|gone a b)|rename-command m slaveof)(\nuser default .*)?"
        r"|# \?\?\? sentinel auth-pass m A\"b\n# \?\?\? sentinel auth-user m o'x|",
        r"|sentinel (sentinel-pass 'two words'|auth-pass (m ''|gone 'a b')|rename-command m slaveof '')",
        "redis",
    ),
    AcceptedDifference(
        "names of masters are quoted, too; otherwise their lines could not be parsed again",
        "!file",
        r"(# \?\?\? [^\n]*\n?)+",
    ),
    AcceptedDifference(
        "an unset address is not written, instead of an empty one",
        "!file",
        "sentinel announce-ip ''",
    ),
    AcceptedDifference("7.2 can set the log level", "!file", "", r"loglevel (warning|notice)", "redis"),
    AcceptedDifference(
        "epochs, as far as we vote and fail over in other ones (see above)",
        "moves/.*!file",
        r"sentinel (current-epoch|(config|leader)-epoch (mymaster|gone)) (8|9|18446744073709551615)",
        r"sentinel (current-epoch|(config|leader)-epoch (mymaster|gone)) (0|8)",
    ),
    AcceptedDifference(
        "the levels as listed by a Redis without the level nothing",
        "^configuration/grammar: loglevel loud",
        r"argument\(s\) must be one of the following: debug, verbose, notice, warning",
        r"argument\(s\) must be one of the following: debug, verbose, notice, warning, nothing",
        "redis",
    ),
    AcceptedDifference(
        "a directive of 7.2",
        "^configuration/grammar: locale-collate C",
        "exit status 1\n.*Bad directive or wrong number of arguments",
        "runs\n.*",
        "redis",
    ),
    AcceptedDifference(
        "the primary words of Valkey",
        "^configuration/per-master.*primary-reboot-down-after-period",
        "exit status 1\n.*Unrecognized sentinel configuration statement\\.",
        "runs\n.*",
        "redis",
    ),
    AcceptedDifference(
        "Valkey 9 lets a word go on behind a closing quote",
        '^configuration/grammar: sentinel monitor "m"m',
        "runs\n.*",
        "exit status 1\n.*Unbalanced quotes in configuration line",
        "valkey",
    ),
    AcceptedDifference(
        "Valkey writes the kind of port in lower case",
        "^configuration/grammar: bind",
        r"Failed listening on port <port> \(tcp\), aborting\.",
        r"Failed listening on port <port> \(TCP\), aborting\.",
        "valkey",
    ),
    # Differences between Redis 7.0 and 7.2, where ours behaves as 7.2.
    AcceptedDifference(NEW_IN_72, "CLIENT SETINFO", UNKNOWN, "0: (.OK|-ERR (wrong|LIB|lib|Lib|Unrec).*)", OLD_REDIS),
    AcceptedDifference(
        "fields of 7.2 and later", "client/", "", r"0\| (watch|lib-name|lib-ver|capa|io-thread)=.*", OLD_REDIS
    ),
    AcceptedDifference(NEW_IN_72, "CLIENT HELP|client help", "", r"0\| \+SETINFO <option> <value>", OLD_REDIS),
    AcceptedDifference(
        "the filters of Valkey 9, which no Redis has",
        "client/(list-filters|list-by-time|kill-filters)",
        ANY,
        ANY,
        OLD_REDIS,
    ),
    AcceptedDifference(
        "IDs filter what is listed, as in Valkey 9: nobody is shown twice, and an ID that cannot be is a mistake",
        r"client/list.*CLIENT LIST ID ({A\.id} {[AB]\.id}|0|-1)$",
        r"0\| .*|0: (\$|=txt:)",
        r"0\| .*|0: -ERR client-id should be greater than 0",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "filters of LIST are those of KILL, as in Valkey 9",
        "client/list.*CLIENT LIST (ID {A.id} TYPE|USER|NAME|TYPE replica TYPE)",
        "0: -ERR (syntax error|Invalid client ID)",
        ANY,
        OLD_REDIS,
    ),
    AcceptedDifference(
        "an invalid ID is an invalid filter, as in Valkey 9",
        "client/(list|kill).*CLIENT (LIST|KILL) ID",
        "0: -ERR (Invalid client ID|client-id should be greater than 0)",
        "0: -ERR syntax error",
        OLD_REDIS,
    ),
    AcceptedDifference(NEW_IN_72, "client/.*TYPE primary", "0: -ERR Unknown client type 'primary'", "0: .*", OLD_REDIS),
    AcceptedDifference(NEW_IN_72, "client/.*MAXAGE", "0: -ERR syntax error", "0: .*", OLD_REDIS),
    AcceptedDifference(
        "7.0 needs an argument for the command that is asked about",
        "COMMAND GETKEYS",
        r"0: -ERR wrong number of arguments for 'command\|getkeys(andflags)?' command",
        "0: -ERR (Invalid command specified|The command has no key arguments)",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.0 names the client before it looks at the password",
        "connection/hello.*CLIENT GETNAME #4|locked/.*CLIENT GETNAME$",
        r"0: \$(x|bob)",
        r"0: (\$ann|[$_] ?(null)?)",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.0 looks at the password before the rest of the line",
        "HELLO 2 AUTH nobody pw FOO",
        "0: -WRONGPASS .*",
        r"0: -ERR Syntax error in HELLO option 'FOO'",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 words it with the protocol version",
        "locked/refused.*HELLO",
        r"0: -NOAUTH HELLO must .* HELLO AUTH <user> <pass> option .*",
        r"0: -NOAUTH HELLO must .* HELLO <proto> AUTH <user> <pass> option .*",
        OLD_REDIS,
    ),
    AcceptedDifference(NEW_IN_72, "SENTINEL CONFIG", ONLY_ONE_OPTION, ANY, OLD_REDIS),
    AcceptedDifference(
        "7.2 can set the log level",
        "(?i)SENTINEL CONFIG SET.* loglevel",
        "0: -ERR Invalid argument 'loglevel' to SENTINEL CONFIG SET",
        "0: .*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 shows the log level", "SENTINEL CONFIG GET loglevel", r"0: \*0", r"0: \*2.*loglevel.*", OLD_REDIS
    ),
    AcceptedDifference("7.2 shows the log level", r"SENTINEL CONFIG GET \*", r"0: \*12", r"0: \*14", OLD_REDIS),
    AcceptedDifference(
        "7.2 shows the log level",
        r"SENTINEL CONFIG GET (\*|loglevel)",
        "",
        r"0(\[12\]: \$loglevel\n0\[13\]|\.loglevel): \$\w+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 can set several options at once",
        r"changes/config-set.*SENTINEL CONFIG GET announce-\*",
        r"0(\[\d\]|\.announce-\w+): \$0?(\n0\.announce-port: \$0)?",
        r"0(\[\d\]|\.announce-\w+): \$(10\.0\.0\.2|7)(\n0\.announce-port: \$7)?",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 shows with CONFIG in HELP that it takes several options",
        "SENTINEL HELP",
        r"0\| \+CONFIG (SET <param> <value>|GET <param>)",
        r"0\| \+CONFIG (SET param|GET <param> \[).*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 answers before it publishes what the command caused",
        "pubsub/own-reply-first",
        r"0: >3\n.*\n1: [+-].*",
        r"0: [+-][^\n]*\n1: >3\n.*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 documents display texts of arguments", "command/docs", "", r"[^\n]*\.display_text: [^\n]*", OLD_REDIS
    ),
    AcceptedDifference(
        "newer versions have changed more",
        "command/docs",
        r"([^\n]*\.history[^\n]*\n?)*",
        r"([^\n]*\.history[^\n]*\n?)*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "arguments that newer versions name or group differently, or document for the first time",
        "command/docs",
        r"([^\n]*(acl\|cat|client\|(kill|list|reply|unblock)|command\|getkeys(andflags)?|hello|psubscribe|shutdown"
        r"|sentinel\|(config|debug|failover|set))\.arguments[^\n]*\n?)*",
        r"([^\n]*(acl\|cat|client\|(kill|list|reply|unblock)|command\|getkeys(andflags)?|hello|psubscribe|shutdown"
        r"|sentinel\|(config|debug|failover|set))\.arguments[^\n]*\n?)*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 knows better what they cost",
        "command/docs",
        r"[^\n]*(punsubscribe|sentinel\|config)\.complexity: [^\n]*",
        r"[^\n]*(punsubscribe|sentinel\|config)\.complexity: [^\n]*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "7.2 knows better",
        "command/docs",
        r"[^\n]*client\|pause\.since: \$2\.9\.50",
        r"[^\n]*\.since: \$3\.0\.0",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "subcommands of 7.2, and the primary words of Valkey",
        "command/docs",
        "",
        r"([^\n]*(client\|setinfo|sentinel\|[\w-]*primar(y|ies)[\w-]*)[.:][^\n]*\n?)+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "no cluster can be failed over, as in Valkey 9",
        "SHUTDOWN.*FAILOVER",
        "0: -ERR syntax error",
        "0: -ERR SHUTDOWN .*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the table of 7.2, with the primary words of Valkey",
        "command/(info|list)",
        r"[^\n]*(: [*~]\d+|\.arity: :-?\d)",
        r"[^\n]*(: [*~]\d+|\.arity: :-?\d)(\n[^\n]*_policy:[^\n]*)*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the table of 7.2, with the primary words of Valkey",
        "command/(info|list)",
        "",
        r"([^\n]*(client\|setinfo|primar(y|ies)|_policy:)[^\n]*\n?)+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the version that is emulated",
        "INFO",
        r"0?\| redis_version:7\.0\.\d+",
        r"0?\| redis_version:7\.2\.\d+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "fields of 7.2",
        "INFO",
        "",
        r"(0?\| (listener0|pubsub_clients|watching_clients|total_watched_keys|total_blocking_keys|expired_subkeys"
        r"|total_blocking_keys_on_nokey|evicted_scripts|client_(query|output)_buffer_limit_disconnections|eventloop_\w+"
        r"|instantaneous_eventloop_\w+|acl_access_denied_(auth|cmd|key|channel|tls_cert|db)):[^\n]*\n?)+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the availability zone, as in Valkey 9",
        "INFO",
        "",
        r"0?\| availability_zone:",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the duration of TILT is shown by newer versions of either kind",
        "INFO",
        "",
        r"0?\| sentinel_total_tilt:0",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "additional fields: whether votes can be saved, and the cause of TILT",
        "INFO",
        "",
        r"0?\| (sentinel_storage:ok|sentinel_tilt_cause(_ms)?:.*)",
    ),
    AcceptedDifference(
        "additional fields: the masters that cannot be failed over now, with reasons",
        "INFO",
        "",
        r"(0?\| (sentinel_blocked_masters:\d+|blocked\d+:name=[^\n]*,reasons=[a-z+-]+)\n?)+",
    ),
    AcceptedDifference(
        "further blockers count: a quorum above the number of Sentinels, and no replica to promote",
        "SENTINEL CKQUORUM",
        r"0: (\+OK|-NOQUORUM) .*",
        r"0: -NOQUORUM .*(The quorum is \d+ and only|No replica (is known|can be promoted)).*",
    ),
    # Words and options of Valkey that ours accepts as well.
    AcceptedDifference("the primary words of Valkey", r"SENTINEL (\S+-)?PRIMAR(Y|IES)", UNKNOWN, SOME, OLD_REDIS),
    AcceptedDifference(
        "the primary words of Valkey",
        "primary-reboot-down-after-period",
        "0: -ERR Unknown option or number of arguments for SENTINEL SET .*",
        "0: .*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the primary words of Valkey",
        "changes/set-others.*!events",
        "",
        r"(\+set master gone .* primary-reboot-down-after-period \d\n?)+",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "the option of Valkey's FAILOVER",
        "SENTINEL FAILOVER .* (FOO|COORDINATED)",
        r"0: -ERR wrong number of arguments for 'sentinel\|failover' command",
        "0: -.*",
        OLD_REDIS,
    ),
    AcceptedDifference(
        "control characters are refused, as Valkey 9 and the Redis of 2026 do: they would break the file",
        "changes/",
        r"0: .*",
        CONTROL,
        OLD_REDIS,
    ),
    AcceptedDifference(
        "then nothing is monitored, set or removed",
        r"changes/control-characters.*SENTINEL REMOVE",
        r"0: \+OK",
        "0: -ERR No such master with that name",
        OLD_REDIS,
    ),
    # Changes of Valkey 8 and 9 that ours does not follow.
    AcceptedDifference(
        "passwords may contain them, as with the Redis of 2026: they are escaped in the file",
        "changes/control-characters.*SENTINEL SET .*auth-pass",
        CONTROL,
        r"0: \+OK",
        NEW_VALKEY,
    ),
    AcceptedDifference("Valkey's name", "(?i)HELLO", r"\d\.server: \$valkey", r"\d\.server: \$redis", NEW_VALKEY),
    AcceptedDifference("Redis 8 has it, Valkey does not", "client/", "", r"0\| io-thread=0", NEW_VALKEY),
    AcceptedDifference(
        "Valkey 9 no longer minds words behind the last",
        "CLIENT (PAUSE 0 WRITE|UNBLOCK 1 TIMEOUT) x",
        "0: (.OK|:0)",
        r"0: -ERR unknown subcommand or wrong number of arguments for '\w+'. Try CLIENT HELP\.",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        VALKEY_9, "(?i)CLIENT HELP", r"(0\| \+(CAPA|NO-TOUCH|IMPORT-SOURCE) [^\n]*\n?)+", "", NEW_VALKEY
    ),
    AcceptedDifference(
        "HELP of Valkey has primary in place of master; both words are accepted",
        "SENTINEL HELP",
        r"0\| \+.*(primary|PRIMARIES|PRIMARY).*",
        r"0\| \+.*(master|MASTERS|MASTER).*",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "flags of commands that differ in Valkey 9 have no effect in a Sentinel",
        r"command/info.*COMMAND",
        r"\[client\]\.subcommands\[client\|[\w-]+\]\.flags(: [*~]\d+|\[\]: \+(allow_busy|no_multi))"
        r"(\n[^\n]*\.flags\[\]: \+(allow_busy|no_multi))?",
        r"|\[client\]\.subcommands\[client\|[\w-]+\]\.flags: [*~]\d+",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "before its first INFO a master may support FAILOVER; the error names what is missing",
        "changes/failover-refused.*COORDINATED",
        r"0: -NOGOODPRIMARY Primary does not support FAILOVER command",
        r"0: -NOGOODPRIMARY Primary has not answered INFO yet",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "the empty list of subcommands is a set in Redis, and an array in Valkey 9",
        "command/info",
        r"[^\n]*\.subcommands: \*0",
        r"[^\n]*\.subcommands: ~0",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "Valkey has deprecated the words with master in them; we keep them and take both",
        "command/docs",
        r"([^\n]*(doc_flags|deprecated_since|replaced_by)[^\n]*\n?)+",
        "",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "Valkey's name of an argument",
        "command/docs",
        r"([^\n]*\[primary-name\][^\n]*\n?)+",
        r"([^\n]*\[master-name\][^\n]*\n?)+",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "fields of Valkey's INFO",
        "INFO",
        r"(0?\| (valkey_\w+|server_name|server_mode|clients_hz|paused_\w+|total_net_cluster_slot_\w+"
        r"|expired_fields|expired_keys_with_volatile_items_stale_perc|io_threaded_\w+|used_active_time_main_thread"
        r"):[^\n]*\n?)+",
        "",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "fields of Redis' INFO", "INFO", "", r"0?\| (redis_mode|atomicvar_api|expired_subkeys):.*", NEW_VALKEY
    ),
    AcceptedDifference(
        "Valkey 9 checks the authentication before the existence of a command",
        "locked/refused",
        r"0: -NOAUTH Authentication required\.",
        "0: -ERR (unknown|wrong) .*",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "Valkey 9 lets a word go on behind a closing quote",
        r"protocol/inline.*unbalanced|protocol/inline.*\"a.\"b",
        r"0: \$ab",
        r"0: -ERR Protocol error: unbalanced quotes in request\n1: <closed>",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "Valkey 9 loses the byte 255 in inline requests",
        r"protocol/inline.*xff",
        r"0: (\$|-ERR unknown command '', .*)",
        r"0: (\$\\xff|-ERR unknown command '\\xff', .*)",
        NEW_VALKEY,
    ),
    AcceptedDifference(
        "Valkey 9 checks line ends that all others skip",
        "protocol/multibulk",
        r"0: -ERR Protocol error: invalid CRLF in request\n1: <closed>",
        r"0: \+PONG",
        NEW_VALKEY,
    ),
)
