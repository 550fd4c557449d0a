"""``SENTINEL SET``: accepted values, and errors."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from txsentinel.config.directives import apply_set, values_wanted
from txsentinel.core.errors import SettingRefused
from txsentinel.core.options import MasterOptions


class ApplySetTests(SynchronousTestCase):
    """Single options."""

    def setUp(self) -> None:
        """Set up a master with the defaults."""
        self.options = MasterOptions(quorum=2)

    def set(self, option: str, *values: str, deny_scripts: bool = False) -> None:
        """Apply options on a host on which only ``/ok`` is executable."""
        apply_set(self.options, option, values, deny_scripts=deny_scripts, executable=lambda path: path == "/ok")

    def assertRefused(self, text: str, option: str, *values: str, deny_scripts: bool = False) -> None:
        """Check that an option is refused with exactly this error line, without any effect."""
        error = self.assertRaises(SettingRefused, self.set, option, *values, deny_scripts=deny_scripts)
        self.assertEqual(str(error), text)
        self.assertEqual(self.options, MasterOptions(quorum=2))

    def test_numbers(self) -> None:
        """Numbers are set, whatever the letter case of the option."""
        for option, value in (
            ("Down-After-Milliseconds", "1"),
            ("failover-timeout", "2"),
            ("parallel-syncs", "3"),
            ("quorum", "4"),
            ("primary-reboot-down-after-period", "5"),
        ):
            self.set(option, value)
        self.assertEqual(self.options, MasterOptions(4, 1, 2, 3, reboot_down_after=5))
        self.set("master-reboot-down-after-period", "0")
        self.assertEqual(self.options.reboot_down_after, 0)

    def test_bad_numbers(self) -> None:
        """Only canonical numbers in range are accepted."""
        for value in ("0", "-1", "+1", "01", " 1", "1 ", "x", "", "1.0", "9223372036854775808", "\u0661"):
            for option in ("down-after-milliseconds", "failover-timeout", "parallel-syncs", "QUORUM"):
                self.assertRefused(f"ERR Invalid argument '{value}' for SENTINEL SET '{option}'", option, value)
        self.assertRefused(
            "ERR Invalid argument '-1' for SENTINEL SET 'master-reboot-down-after-period'",
            "master-reboot-down-after-period",
            "-1",
        )

    def test_credentials(self) -> None:
        """Credentials are unset by an empty word."""
        self.set("auth-pass", "secret")
        self.set("auth-user", "al")
        self.assertEqual((self.options.auth_pass, self.options.auth_user), ("secret", "al"))
        self.set("auth-pass", "")
        self.set("auth-user", "")
        self.assertEqual((self.options.auth_pass, self.options.auth_user), (None, None))

    def test_scripts(self) -> None:
        """Scripts must be executable, and changing them must be permitted, even to unset them."""
        self.set("notification-script", "/ok")
        self.set("client-reconfig-script", "/ok")
        self.assertEqual((self.options.notification_script, self.options.client_reconfig_script), ("/ok", "/ok"))
        self.set("notification-script", "")
        self.set("client-reconfig-script", "")
        denied = (
            "ERR Reconfiguration of scripts path is denied for security reasons. Check the deny-scripts-reconfig "
            "configuration directive in your Sentinel configuration"
        )
        self.assertRefused(denied, "notification-script", "/ok", deny_scripts=True)
        self.assertRefused(denied, "client-reconfig-script", "", deny_scripts=True)
        self.assertRefused("ERR Notification script seems non existing or non executable", "notification-script", "/no")
        self.assertRefused(
            "ERR Client reconfiguration script seems non existing or non executable", "client-reconfig-script", "/no"
        )

    def test_rename_command(self) -> None:
        """A command has at most one other name, and none once it is renamed to itself."""
        self.set("rename-command", "Config", "x")
        self.set("rename-command", "CONFIG", "y")
        self.assertEqual(self.options.renamed_commands, {"CONFIG": "y"})
        self.assertEqual(self.options.rename_spellings, {"CONFIG": "CONFIG"})
        self.set("rename-command", "config", "Config")
        self.assertEqual((self.options.renamed_commands, self.options.rename_spellings), ({}, {}))
        self.assertRefused("ERR Invalid argument '' for SENTINEL SET 'rename-command'", "rename-command", "a", "")

    def test_unknown(self) -> None:
        """Unknown options and missing values have the same error, with the option as it was sent."""
        for option, values in (("Foo", ("1",)), ("quorum", ()), ("rename-command", ("a",)), ("monitor", ("1",))):
            self.assertRefused(
                f"ERR Unknown option or number of arguments for SENTINEL SET '{option}'", option, *values
            )

    def test_values_wanted(self) -> None:
        """The caller can ask how many words belong to an option."""
        self.assertEqual(
            [values_wanted(option) for option in ("QUORUM", "Auth-Pass", "rename-command", "known-replica", "x")],
            [1, 1, 2, 0, 0],
        )
