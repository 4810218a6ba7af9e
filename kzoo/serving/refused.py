"""A client's fault, in one sentence."""


class Refused(Exception):
    """A request that is not answered as it was meant; answered with its status and sentence."""

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status = status
