"""Keeps the endpoint's certificate: process 1 decides when one is ordered, Caddy makes the order.

What is due is decided in `certificates_rules`, what is kept lies in `certificates_store`, the copy beyond
this disk in `certificates_copy`. One thread looks at it all, opens the front door and changes it when
something about certificates has changed; a failure here is told and leaves the front door as it is.
"""

import base64
import hashlib
import json
import threading
import time
import traceback
from pathlib import Path

from budget_server.vm import acme
from budget_server.vm.certificates_copy import (
    CopyUnreachable,
    CopyUnreadable,
    Place,
    Uploader,
    unseal,
)
from budget_server.vm.certificates_rules import (
    UNRESOLVED_SECONDS,
    Ledger,
    Problem,
    Reason,
    Subject,
    choose,
    meaning,
    subjects,
    when,
)
from budget_server.vm.certificates_store import Certificate, Store
from budget_server.vm.config import BudgetConfig, Tls, parse_config
from budget_server.vm.dns_answers import Resolver
from budget_server.vm.errors import ArtifactInvalid
from budget_server.vm.frontdoor import FrontDoor
from budget_server.vm.frontdoor_configuration import Layout, Loaded
from budget_server.vm.intent import Intent
from budget_server.vm.metadata import MetadataServer, MetadataUnavailable
from budget_server.vm.process import log
from budget_server.vm.report import Reporter
from budget_server.vm.settings import Settings

TICK_SECONDS = 0.5
_POLL_SECONDS = 0.1
#: However long nothing is due: the clock may be set meanwhile.
_LONGEST_WAIT = 60.0
#: Between looks at a name that does not lead here; from the first to the last value, doubled each time.
_FIRST_LOOK, _LAST_LOOK = 2.0, 30.0
#: A copy that the bucket does not deliver is waited for so long before a certificate is ordered without it.
_COPY_SECONDS = 120.0
_AGAIN_SECONDS = 2.0


class Certificates:
    """The thread that opens the front door and keeps its certificate."""

    def __init__(
        self,
        settings: Settings,
        metadata: MetadataServer,
        reporter: Reporter,
        door: FrontDoor,
        intent: Intent,
    ) -> None:
        self._settings = settings
        self._metadata = metadata
        self._reporter = reporter
        self._door = door
        self._intent = intent
        self._stopping = intent.stopping
        self._store = Store(settings.certificates, settings.caddy_storage)
        self._uploader = Uploader(metadata.access_token, self._key, self._store.note_copied, intent.stopping)
        #: Digest of what lies in the bucket, or is on its way there.
        self._copied = self._store.copied()
        self._ledger = self._store.ledger()
        self._copy_settled = not self._store.is_new
        self._text: str | None = None
        self._config: BudgetConfig | None = None
        self._tls = Tls()
        self._address = ""
        self._is_public = True
        self._layout: Layout | None = None
        self._told = ""
        self._root: str | None = None
        self._look = _FIRST_LOOK
        self._look_at = 0.0
        self._unresolved_since: dict[Subject, float] = {}
        self._attempts = 0
        self._started = time.monotonic()
        self._timed = False

    def start(self) -> None:
        threading.Thread(target=self.run, name="certificates", daemon=True).start()

    def run(self) -> None:
        """Until told to stop."""
        if not self._find_address():
            return
        self._take()
        self._recover(time.time())
        layout = self._wanted_layout(time.time())
        self._door.start(layout)
        if not self._door.wait_open():
            return
        self._layout = layout
        self._reporter.took("frontDoor", time.monotonic() - self._started)
        log(f"the front door answers for {self._address}")
        due = 0.0
        while not self._stopping.is_set():
            if self._take() or time.monotonic() >= due:
                due = time.monotonic() + min(self._careful_step(), _LONGEST_WAIT)
            self._stopping.wait(TICK_SECONDS)

    def _find_address(self) -> bool:
        while not self._stopping.is_set():
            try:
                public = self._metadata.public_ip()
                self._address = public or self._metadata.external_ip()
                self._is_public = public is not None
            except MetadataUnavailable as error:
                log(str(error))
                self._stopping.wait(_AGAIN_SECONDS)
                continue
            while not self._stopping.is_set():
                if self._intent.asked.wait(TICK_SECONDS):
                    return True
        return False

    def _take(self) -> bool:
        """Whether metadata has other settings than before."""
        text = self._intent.text
        if text is None or text == self._text:
            return False
        self._text = text
        try:
            self._config = parse_config(text)
        except ArtifactInvalid:  # told by the converger
            return False
        changed, self._tls = self._tls != self._config.tls, self._config.tls
        if changed:
            self._look, self._look_at = _FIRST_LOOK, 0.0
        return changed

    def _recover(self, now: float) -> None:
        """An order that was under way when this VM ended may have come to its good end."""
        for subject in self._candidates():
            began = self._ledger.entry(subject).under_way
            if began is not None and self._store.adopt(subject, began - 1, now):
                self._keep(self._ledger.succeed(subject, 1, now))
        recovered = self._ledger.after_boot(now)
        if recovered != self._ledger:
            self._keep(recovered)

    def _careful_step(self) -> float:
        try:
            return self._step(time.time())
        except Exception:
            traceback.print_exc()
            return _AGAIN_SECONDS

    def _step(self, now: float) -> float:
        """Do what is due; seconds until the next look."""
        if self._tls.mode != "Acme":
            return self._without_orders(now)
        if not self._copy_settled:
            self._settle_copy()
        if not self._apply(now):
            return _AGAIN_SECONDS
        self._tell_root("")
        subject = self._subject(now)
        if not self._copy_settled:
            self._tell("Pending", Reason.ORDERING, "The bucket is asked for an earlier certificate", subject)
            return _AGAIN_SECONDS
        self._copy()
        return self._attend(subject, now)

    def _without_orders(self, now: float) -> float:
        if not self._apply(now):
            return _AGAIN_SECONDS
        root = self._door.certificate_authority() if self._tls.mode == "Internal" else ""
        if root is not None:
            if root:
                self._served()
            self._tell_root(root)
            self._tell("Valid", Reason.ISSUED, "", name=self._address)
        return _LONGEST_WAIT

    def _attend(self, subject: Subject, now: float) -> float:
        """See to the certificate of this subject."""
        certificate = self._valid(subject, now)
        if certificate:
            self._served()
            if now < certificate.validity.renew_at:
                self._tell("Valid", Reason.ISSUED, "", subject, certificate)
                return certificate.validity.renew_at - now
        self._ledger = self._ledger.configured(subject, self._fingerprint())
        entry = self._ledger.entry(subject)
        retry_at = self._ledger.not_before(subject, now)
        if now < retry_at:
            reason = entry.reason or Reason.RATE_LIMITED
            message = entry.message or "There were too many orders within the hour"
            self._tell("Waiting", reason, message, subject, certificate, retry_at)
            return min(retry_at - now, TICK_SECONDS * 10)
        if now < self._look_at:
            return self._look_at - now
        if problem := self._obstacle(subject):
            self._look_at, self._look = now + self._look, min(self._look * 2, _LAST_LOOK)
            self._note_unresolved(subject, problem, now)
            self._tell("Pending", problem.reason, problem.message, subject, certificate)
            return self._look_at - now
        self._order(subject, certificate, now)
        return 0

    def _obstacle(self, subject: Subject) -> Problem | None:
        if not self._is_public and not self._tls.directory:
            return Problem(
                Reason.NO_PUBLIC_ADDRESS,
                "This VM has no public address by which the authority could reach it; give it one, "
                "or name an authority of your own in tls.directory",
            )
        if subject.is_address:
            return None
        return meaning(subject.name, self._address, Resolver(self._settings.resolver).ask(subject.name))

    def _note_unresolved(self, subject: Subject, problem: Problem, now: float) -> None:
        if problem.reason is Reason.NAME_NOT_RESOLVED:
            self._unresolved_since.setdefault(subject, now)
        else:
            self._unresolved_since.pop(subject, None)

    def _order(self, subject: Subject, certificate: Certificate | None, now: float) -> None:
        """Let Caddy make one order, and no second one."""
        self._keep(self._ledger.begin(subject, now))
        self._tell("Pending", Reason.ORDERING, "A certificate is being ordered", subject, certificate)
        self._store.forget_obtained(subject)
        order = self._next_order(subject)
        log(f"a certificate for {subject.name} is ordered from {subject.directory} by {order.challenge}")
        layout, self._layout = self._wanted_layout(now), None
        if self._door.change(layout, order):
            outcome = self._await(order, now)
        else:
            problem = Problem(Reason.ORDER_FAILED, "Caddy did not take the order; see the VM's log")
            outcome = acme.Outcome(acme.read(order.log, now).orders, problem)
        if outcome is None or not self._withdraw(layout):
            return
        self._finish(subject, outcome, now)
        self._apply(time.time())
        order.log.unlink(missing_ok=True)

    def _withdraw(self, layout: Layout) -> bool:
        """Have Caddy look after nothing, before anything else; not if this VM ends first.

        It forgets a certificate that it looked after even when the next configuration loads the same one from
        a file. So there must be one between.
        """
        while not self._stopping.is_set():
            if self._door.change(layout):
                return True
            self._stopping.wait(_AGAIN_SECONDS)
        return False

    def _finish(self, subject: Subject, outcome: acme.Outcome, began: float) -> None:
        now = time.time()
        if self._store.adopt(subject, began - 1, now):
            log(f"a certificate for {subject.name} was issued")
            self._keep(self._ledger.succeed(subject, max(outcome.orders, 1), now))
            return
        problem = outcome.problem or Problem(Reason.ORDER_FAILED, "The issued certificate cannot be used")
        self._keep(self._ledger.fail(subject, problem, outcome.orders, now))
        retry_at = self._ledger.not_before(subject, now)
        log(f"{problem.reason}: {problem.message}; the next order not before {when(retry_at)}")

    def _next_order(self, subject: Subject) -> acme.Order:
        self._attempts += 1
        trust: Path | None = None
        if self._tls.ca_bundle:
            trust = self._settings.door / "directory.pem"
            trust.write_text(self._tls.ca_bundle)
        entry = self._ledger.entry(subject)
        path = self._settings.door / f"order-{self._attempts}.log"
        path.unlink(missing_ok=True)
        return acme.Order(subject, entry.challenge, self._tls.email, trust, path)

    def _await(self, order: acme.Order, began: float) -> acme.Outcome | None:
        """How the order ends; None if this VM ends first."""
        deadline = time.monotonic() + acme.WAIT_SECONDS
        while not self._stopping.is_set():
            now = time.time()
            if self._store.has_obtained(order.subject, began - 1, now):
                return acme.Outcome(acme.read(order.log, now).orders)
            outcome = acme.read(order.log, now)
            if outcome.problem:
                return outcome
            if self._take():
                given_up = Problem(Reason.ORDER_FAILED, "The settings changed in the middle of the order")
                return acme.Outcome(max(outcome.orders, 1), given_up)
            if time.monotonic() > deadline:
                late = Problem(Reason.ORDER_FAILED, "The authority did not end the order in time")
                return acme.Outcome(outcome.orders, late)
            self._stopping.wait(_POLL_SECONDS)
        return None

    def _apply(self, now: float) -> bool:
        """Have the front door look as it should; whether it does."""
        wanted = self._wanted_layout(now)
        if wanted != self._layout:
            self._layout = wanted if self._door.change(wanted) else None
        return self._layout is not None

    def _wanted_layout(self, now: float) -> Layout:
        if self._tls.mode != "Acme":
            return Layout(self._address, self._tls.mode)
        subject = self._subject(now)
        own = self._valid(subject, now)
        served = [own] if own else []
        for each in self._store.others():
            taken = frozenset[str]().union(*(one.names for one in served))
            if each.validity.holds(now) and not each.names & taken:
                served.append(each)
        loaded = tuple(Loaded(each.path, each.serial) for each in served)
        return Layout(self._address, "Acme", loaded, subject.name if own else "")

    def _candidates(self) -> tuple[Subject, ...]:
        return subjects(self._tls, self._address)

    def _subject(self, now: float) -> Subject:
        candidates = self._candidates()
        valid = frozenset(each for each in candidates if self._valid(each, now))
        lost = {each for each, since in self._unresolved_since.items() if now - since > UNRESOLVED_SECONDS}
        return choose(candidates, valid, self._ledger, frozenset(lost), now)

    def _valid(self, subject: Subject, now: float) -> Certificate | None:
        certificate = self._store.certificate(subject)
        return certificate if certificate and certificate.validity.holds(now) else None

    def _settle_copy(self) -> None:
        """Look once whether the bucket has what this disk never had."""
        assert self._config
        place = Place.of(self._config)
        try:
            sealed = place.read(self._metadata.access_token())
            if sealed is not None:
                self._store.unpack(unseal(sealed, self._key(), place.deployment))
                self._ledger = self._store.ledger()
                log("account and certificate were taken from the copy in the bucket")
        except (CopyUnreachable, MetadataUnavailable) as error:
            log(f"The copy of the certificates cannot be read: {error}")
            self._copy_settled = time.monotonic() - self._started > _COPY_SECONDS
            return
        except (CopyUnreadable, ValueError, KeyError, TypeError, AttributeError) as error:
            log(f"The copy of the certificates is ignored: {error}")
        self._copy_settled = True

    def _copy(self) -> None:
        """Bring the copy up to what this disk has; also what an earlier boot could not bring there."""
        if self._store.is_new or self._config is None:
            return
        plain = self._store.pack()
        digest = hashlib.sha256(plain).hexdigest()
        if digest != self._copied:
            self._copied = digest
            self._uploader.put(Place.of(self._config), plain)

    def _keep(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._store.keep(ledger)

    def _key(self) -> bytes:
        key = base64.b64decode(self._metadata.attribute("budget-key").value or "", validate=True)
        if not key:
            raise MetadataUnavailable("The metadata entry budget-key is missing")
        return key

    def _fingerprint(self) -> str:
        return hashlib.sha256(f"{self._tls.email}\n{self._tls.ca_bundle}".encode()).hexdigest()[:16]

    def _served(self) -> None:
        if not self._timed:
            self._timed = True
            self._reporter.took("certificate", time.monotonic() - self._started)

    def _tell_root(self, root: str) -> None:
        if root != self._root:
            self._root = root
            self._reporter.certificate_authority(root)

    def _tell(
        self,
        state: str,
        reason: Reason,
        message: str,
        subject: Subject | None = None,
        certificate: Certificate | None = None,
        retry_at: float | None = None,
        name: str = "",
    ) -> None:
        """What the operator learns; while a certificate is valid, trouble with the next is a message."""
        if certificate and state != "Valid":
            state, message, reason = "Valid", f"The renewal is due. {message}", Reason.ISSUED
        document = {
            "mode": self._tls.mode,
            "name": subject.name if subject else name,
            "state": state,
            "reason": reason,
            "message": message,
            "retryAt": int(retry_at) if retry_at else None,
            "notAfter": int(certificate.validity.not_after) if certificate else None,
            "orders": self._ledger.orders,
        }
        text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
        if text != self._told:
            self._told = text
            self._reporter.certificate(text)
