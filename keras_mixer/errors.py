"""Bad input as one clear sentence, which knows nothing of a command line and reads well on one."""

import re


class InputError(ValueError):
    """An argument that cannot be used: its name, what is wrong, and the way out.

    Args:
        argument: its name, without dashes.
        fault: what is wrong, with the value.
        remedy: what to do. Arguments in it stand between backticks: a command line writes them with dashes.

    Example:
        >>> error = InputError("model", "'b17' is unknown", "leave `model` out")
        >>> str(error), error.on_command_line()
        ("model: 'b17' is unknown; leave model out.", "model: 'b17' is unknown; leave --model out.")
    """

    def __init__(self, argument: str, fault: str, remedy: str) -> None:
        self.argument, self.fault, self.remedy = argument, fault, remedy
        super().__init__(self._sentence(""))

    def on_command_line(self) -> str:
        """Return the sentence for who gave the arguments as flags."""
        return self._sentence("--")

    def _sentence(self, dashes: str) -> str:
        return re.sub(r"`(\w+)`", rf"{dashes}\1", f"{self.argument}: {self.fault}; {self.remedy}.")
