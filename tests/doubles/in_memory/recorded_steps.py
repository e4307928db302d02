"""Steps and a question that only record, at their host, that they were performed."""

from xenqemu.operations.journal.steps import Question, Step


class Acts(list):
    """Records what was done; `refuse` maps the names of acts that fail to what they raise."""

    def __init__(self):
        self.refuse = {}
        self.passed = False

    def allow(self, name):
        if name in self.refuse:
            raise self.refuse[name]


class Do(Step, words="{name}"):
    """An act that the host's `acts` record."""

    name: str

    def perform(self, host):
        host.acts.append(self.name)
        host.acts.allow(self.name)


class Passed(Question):
    """Whether the host's `acts` have passed the point of no return."""

    def passed(self, host):
        host.acts.allow("passed")
        return host.acts.passed
