"""The group of all verbs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import Final

import click

from txsentinel.cli.operator import (
    doctor,
    fleet_metrics,
    letters,
    membership,
    past,
    pauses,
    pausing,
    proxying,
    reading,
    restoring,
    settings,
    shadowing,
    switching,
    watching,
)
from txsentinel.cli.operator.statuses import USAGE, VerbFailed
from txsentinel.cli.operator.visible import visible

PROGRAM: Final = "txsentinel"


@click.group(name=PROGRAM, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def operator() -> None:
    """Read and operate Sentinels of any kind: redis-sentinel, valkey-sentinel and txsentinel."""


for verb in (
    *reading.VERBS,
    doctor.doctor_verb,
    letters.webhooks_verb,
    membership.drain_verb,
    membership.forget_verb,
    past.history_verb,
    pausing.pause_verb,
    pauses.resume_verb,
    pauses.paused_verb,
    proxying.proxy_verb,
    fleet_metrics.serve_metrics_verb,
    restoring.restore_verb,
    settings.set_verb,
    settings.diff_verb,
    shadowing.shadow_verb,
    switching.switchover_verb,
    switching.failover_verb,
    watching.watch_verb,
    watching.run_verb,
):
    operator.add_command(verb)


def run(words: Sequence[str]) -> int:
    """
    Run a verb.

    :param words: the verb and its arguments.
    :returns: the exit status.
    """
    try:
        with contextlib.suppress(click.exceptions.Exit):
            status = operator.main(list(words), PROGRAM, standalone_mode=False)
            return status if isinstance(status, int) else 0
        return 0
    except click.ClickException as error:
        error.show()
        return USAGE
    except VerbFailed as failure:
        sys.stderr.write(f"{PROGRAM} {words[0]}: {visible(str(failure))}\n")
        sys.stderr.writelines(f"  {visible(each)}\n" for each in failure.details)
        return failure.status
    except (KeyboardInterrupt, click.Abort):
        return 130
