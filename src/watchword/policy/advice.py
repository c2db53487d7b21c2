"""What an operator does about a finding, by its code.

One entry per stable code. The sentence says what usually stands behind the finding and what to do next; it never
advises to accept something unseen. A test fails when a code is raised that has no entry here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["ADVICE", "advice_for"]

_ATTACK = (
    "Nothing a healthy host does leads here: keep the evidence and treat the host as hostile until it is explained."
)
_FIRMWARE = (
    "A firmware or boot loader that logs it like this must be fixed or replaced; keep the event log for its maker."
)
_NEW_EK = "If you know this TPM, pin its endorsement key or import its maker's root; otherwise do not enrol the host."
_RETRY = (
    "Let the host ask for a new challenge and send new evidence; if it persists, compare the clocks and the network."
)
_AGAIN = "Enrol the host again: watchword agent enrol."
_RELAUNCH = "The tenant makes a new token and launches again."
_TENANT = "Do not use the machine. Keep the receipts and show them to the authority's operator."

_IDENTITY = {
    "ek-certificate-malformed": "The EK certificate cannot be read; 'watchword inspect ek-cert' shows how far. "
    + _NEW_EK,
    "ek-crl": "The issuer's revocation list is missing its date or signature, or is out of date: give the authority a "
    "new one.",
    "ek-crl-absent": "Give the authority the revocation list of this issuer, if it publishes one.",
    "ek-revoked": "The maker withdrew this certificate: take the TPM out of service.",
    "ek-name-encoding": "Nothing to do: a maker's habit that changes no meaning.",
    "ek-name-order": "Nothing to do: a maker's habit that changes no meaning.",
    "ek-signature-parameters": "Nothing to do: a maker's habit that changes no meaning.",
    "ek-key-type": "Nothing to do: a maker's habit that changes no meaning.",
    "crl-malformed": "The revocation list cannot be read: fetch it again from its issuer.",
    "roots-malformed": "The bundle of roots cannot be read: export it again where it comes from.",
    "ek-certificate-ca": "The TPM presents the certificate of an authority instead of its own. " + _ATTACK,
    "ek-certificate-header": "Nothing to do: the certificate was stored with the header that TPM 1.2 used.",
    "ek-certificate-padding": "Nothing to do: the NV index is larger than the certificate in it.",
    "ek-chain": "The TPM's maker is not among the trust anchors, a certificate in between is missing, or it expired. "
    + _NEW_EK,
    "ek-key": "Certificate and template do not fit: let the agent use the EK of the certificate's kind.",
    "ek-key-usage-absent": "Nothing to do: the certificate leaves out its key usage.",
    "ek-not-pinned": "The host has no EK certificate and nobody wrote its key down. " + _NEW_EK,
    "ek-template": "The key is not an endorsement key by the default template, so it may be anything. " + _ATTACK,
    "ek-usage": "The certificate was issued for something else than an endorsement key. " + _NEW_EK,
    "ek-usage-absent": "Nothing to do: the certificate leaves out what it is for.",
    "ak-attributes": "A key without these attributes signs anything its owner likes. Enrol with watchword's own agent; "
    "if it was, treat the host as hostile.",
    "ak-algorithm": "Enrol again with an agent that makes a P-256 attestation key.",
    "ak-proof": "Attestation key and endorsement key are not in one TPM, or the TPM was cleared in between. " + _AGAIN,
    "ak-record": "The authority's record of this host is damaged: restore its database from a backup, then "
    "enrol again.",
    "standing-mismatch": "The authority's answer is about something else. " + _TENANT,
    "standing-old": "The answer is not fresh: compare the clocks; somebody in between may repeat an old one.",
    "host-unmentioned": "The authority's statement and its receipts differ. " + _TENANT,
    "host-rebooted": "The machine of this launch ended with its host's boot. " + _RELAUNCH,
    "host-silent": "The host's agent does not attest: the provider looks at it.",
    "host-below-level": "The host went bad under the machine: take its secrets out and launch elsewhere.",
    "challenge-outdated": "Nothing to do: what is on file changed meanwhile, and the agent asks for a new challenge.",
    "attest-replayed": "Nothing to do: the agent asks for a new challenge. " + _RETRY,
    "evidence-none": "The host has not attested yet: see whether its agent runs, with watchword agent attest.",
    "watch-none": "Say by which profile hosts are judged: watchword authority watch add PROFILE.",
    "host-unknown": _AGAIN,
    "host-revoked": "Somebody revoked this host: find out why in the authority's log. Enrolling again does not "
    "undo it.",
    "host-merged": "Two hosts showed one attestation key. Take both out of service and find out which is genuine.",
    "enrol-expired": "The enrolment took too long: start it again, and look at what delays the TPM or the network.",
    "enrol-cookie": "The enrolment was begun at another authority, or its state was altered: start it again.",
    "identity-class": "The host's TPM is of another class than the profile accepts: use other hosts, or "
    "another profile.",
}

_QUOTE = {
    "quote-magic": "The structure was signed but not made by the TPM. " + _ATTACK,
    "quote-type": "The TPM attested something else than PCRs: check that the agent is of this version.",
    "quote-malformed": "The quote has missing or surplus bytes: check that the agent and whatever carries its messages "
    "are of this version.",
    "quote-signature": "The quote is another host's, or was altered on the way; after a change of TPM or mainboard "
    "enrol again: watchword agent enrol.",
    "quote-binding": "The quote answers another challenge: a replay, or a request that was altered on the way. "
    + _RETRY,
    "quote-selection": "The host quoted other PCRs than the profile names. Of exported evidence: collect it again with "
    "--pcrs as the profile has them.",
    "quote-debug-pcr": "Take PCRs 16 and 23 out of the profile: any program can reset them.",
    "quote-bank": "Switch on a SHA-256 bank in the host's firmware setup.",
    "quote-pcr-digest": "The values sent are not the ones signed: a PCR moved while it was read, or they were altered. "
    + _RETRY,
    "quote-reset-count": "The TPM was cleared, or its state was put back. If you did that: watchword agent enrol. "
    "If nobody did, treat the host as hostile.",
    "quote-restart-count": "The TPM's state was put back. Enrol again only when you know why.",
    "quote-clock": "The TPM's clock went back, as when a saved state of a virtual TPM is restored. Enrol again only "
    "when you know why.",
    "quote-firmware": "Update the TPM's firmware, or add its version to the profile's tpm_firmware once you trust it.",
    "purpose-unknown": "The request asks for something that this authority does not give out: update the agent or the "
    "authority.",
    "nonce-unknown": "The challenge came from another authority, or for another host or token. " + _RETRY,
    "nonce-expired": "More time than a challenge lives passed between it and the evidence. " + _RETRY,
    "nonce-used": "The same evidence arrived twice. Once is a retry that a relay repeated; often is somebody "
    "replaying.",
}

_BOOT = {
    "evidence-malformed": "The logs cannot be read. Look with 'watchword inspect eventlog' and 'watchword inspect "
    "ima'; a log that is cut short points to a full disk or a relay that alters messages.",
    "boot-log-bank": "The firmware does not log the bank that the profile quotes: name another bank in the profile, or "
    "switch this one on in the firmware setup.",
    "boot-log-replay": "The log is not the one of this boot, or an event was left out or altered. Collect again; if a "
    "reboot does not help, something measures without logging, or the log was edited.",
    "boot-log-data": "The log shows other data for this event than was measured. " + _ATTACK,
    "boot-log-pcr-type": "An event of this type has no place in that PCR. " + _FIRMWARE,
    "boot-log-separator": "The firmware did not hand over exactly once, or reports an error. " + _FIRMWARE,
    "boot-log-after-separator": "Something posed as the firmware after the firmware had handed over. " + _ATTACK,
    "boot-log-variable": "A Secure Boot variable was measured with two contents, so neither is believed. " + _FIRMWARE,
    "boot-log-padding": "Nothing to do: the operating system hands out the log with empty space behind it.",
    "boot-log-registers": "The log says that its numbers are the registers of a confidential machine, which no TPM "
    "quote stands behind. If the host is an ordinary one, somebody altered the log's header.",
    "boot-log-vendor-info": "Nothing to do: the firmware states the size of its vendor information wrongly.",
    "command-line": "Change the kernel's command line and reboot. If it is not known: quote PCRs 8, 9 and 12, boot "
    "with a loader that measures it, or state it in the stack (command_line of the event that measures it).",
    "lockdown": "Add lockdown=integrity or lockdown=confidentiality to the kernel's command line and reboot.",
    "ima-policy": "Add ima_policy=tcb, or what the profile names, to the kernel's command line and ima_hash=sha256, "
    "and reboot.",
    "secure-boot-keys": "Compare the keys named with those you expect: enrol yours and remove the others in the "
    "firmware setup, or add them to the profile once you know whose they are.",
    "secure-boot": "Switch Secure Boot on in the firmware setup and reboot, or use a level that does not ask for it.",
}

_RUNTIME = {
    "runtime-log-ahead": "Many files were opened between quote and log. Try again when the host is less busy, or raise "
    "the profile's max_log_ahead.",
    "runtime-log-aggregate": "The runtime log belongs to another boot than the quote: reboot, or look for a kernel "
    "that was started by kexec.",
    "runtime-log-aggregate-unchecked": "Nothing to do, but the log's first entry could not be compared with the boot: "
    "set ima_hash=sha256 on the kernel's command line.",
    "runtime-log-buffer": "An entry's data is not what was measured. " + _ATTACK,
    "runtime-log-digest": "An entry was altered after it was measured. " + _ATTACK,
    "runtime-log-padded": "The kernel extends SHA-1 digests filled up with zeros, and SHA-1 can be collided: use "
    "kernel 5.8 or later.",
    "runtime-log-part": "The host sent only the new part of its log, and the authority does not have the rest, as "
    "after a reboot: let it send the whole log.",
    "runtime-log-pcr": "IMA writes to another PCR than 10 on this host: let the profile quote that one too, or set "
    "CONFIG_IMA_MEASURE_PCR_IDX and the pcr= options of its policy back to 10.",
    "runtime-log-replay": "No part of the log leads to the quoted PCR 10: entries are missing, altered or reordered, "
    "or something else extends PCR 10. Collect again; reboot if it persists.",
    "runtime-log-size": "The measurement policy measures too much, or the host runs for very long without a launch: "
    "reboot it, and narrow its policy.",
    "runtime-log-template": "The kernel writes entries that cannot be read: use ima_template=ima-ng or ima-sig.",
    "runtime-log-truncated": "The host now shows a shorter or other log than before in the same boot. " + _ATTACK,
    "runtime-file": "Find out which package the file is from. If it belongs there, add it to the next release of the "
    "stack and have that endorsed; if not, somebody changed the host.",
    "runtime-key": "Find out whose key it is. If it belongs there, list it under runtime.keyrings in the next release "
    "of the stack; if not, somebody tried to make the kernel accept files of their own.",
    "runtime-signatures": "List the files that all hosts have in the stack, which needs no signature, or measure "
    "less. A log with signatures that nobody needs may also be meant to keep the authority busy.",
    "runtime-violation": "Files were written while they were measured, often logs in an IMA policy that is too broad: "
    "narrow the policy, reboot, or set reject_violations to false knowing that anything may have run.",
}

_STACK = {
    "stack-none": "If the boot is a release that you know, describe and endorse it: watchword stack capture, "
    "then watchword stack endorse. If it should be the stack named here, the component named is the "
    "one that differs: reinstall it.",
    "coverage": "Use a stack that covers these PCRs, or take them out of the level's covers.",
    "stack-expired": "Update the host to a release that is in force, or let the endorsers publish one with a "
    "later date.",
    "stack-revoked": "Update the host: this release was withdrawn for a reason that the authority's log names.",
    "stack-rolled-back": "Update the host: the profile demands a newer release than it runs.",
    "stack-endorsers": "Have the missing endorsers sign the stack and register it again, or pick a level with fewer.",
    "stack-pool": "The host runs a release of another pool: update it from a pool that the profile accepts, or let "
    "the profile's pools name this one.",
    "stack-origin": "Compute the stack from the release's artifacts (watchword stack measure) and have it endorsed.",
    "stack-channel": "The host runs a release of another channel: update it from one that the profile accepts, or let "
    "the profile's channels name this one.",
    "stack-variant": "The component named is of a variant that the profile does not accept, such as a firmware that "
    "is too old: replace it, or add the variant to the profile once you trust it.",
    "known-bad": "Replace the component named: a release in force says why it is bad. If the release is wrong, its "
    "operator retires it: watchword authority stack retire.",
    "evidence-age": _RETRY,
    "profile-level": "The other findings say why; a lower level of the profile may be enough for the tenant.",
}

_RELEASES = {
    "stack-unsigned": "Sign the document: watchword stack endorse FILE --key KEY -o FILE.",
    "stack-endorser": "Have an endorser sign whom this authority knows, or add the key of the one who did: watchword "
    "authority endorser add FILE.",
    "stack-endorser-limit": "Have it signed by an endorser who may sign for this stack and pool: watchword authority "
    "endorser list.",
    "stack-threshold": "Have another endorser sign the same envelope, then add it again.",
    "stack-ended": "Make a new release with a later end.",
    "stack-issued": "Compare this machine's clock with that of whoever made the release.",
    "stack-serial": "Two documents have one serial: find out why, and give the new one a higher serial.",
    "stack-older": "A newer release was in force already. Going back may bring back a hole: only with --allow-rollback "
    "and a reason.",
    "stack-overlap": "Say until when both releases are good: --overlap-until TIME, or --retire-old-in 2h.",
}

_LAUNCH = {
    "profile-unknown": "Give the profile to the authority: watchword authority profile add FILE.",
    "token-unopenable": "The token is damaged, or sealed to another authority or to a key that was "
    "retired. " + _RELAUNCH,
    "token-profile": "The token asks for more than was approved: this is a fault of the authority, report it.",
    "token-expired": _RELAUNCH,
    "token-used-up": "Somebody launched with this token before: the tenant looks at the receipts, then makes a "
    "new token.",
    "decision-log": "The authority's log was altered or its disk failed: stop the service and compare with receipts.",
    "sealed-unopenable": "The request is sealed to a key that the authority retired: watchword trust update on the "
    "tenant's side, new key lists on the host's.",
    "reply-unopenable": "The reply belongs to another request or was altered on the way. " + _RETRY,
    "reply-order": "Agent and authority are of versions that do not go together: update both.",
    "payload-unopenable": "The release is another request's, or was altered on the way. " + _RETRY,
    "launch-detour": "The tenant's token does not allow rescue, rebuild or another detour: launch normally.",
    "disk-changed": "Somebody else writes to the disk: detach it elsewhere, then launch again.",
    "disk-format": "Boot from a raw or qcow2 file of the host: what is behind a volume cannot be hashed there.",
    "disk-tail": "The disk is not a fresh copy of the tenant's image: build the machine anew.",
    "inputs-differ": "Disk image or user-data are not those of the token: launch with the originals, or make a "
    "new token.",
}

_DOCUMENTS = {
    "key-file": "Use an Ed25519, P-256 or P-384 key.",
    "profile-mismatch": "The authority gave another profile than its id says: do not use it, and tell its operator.",
    "document-signature": "The document was altered, or was not signed by whom it says. Fetch it again from "
    "its origin.",
    "document-signers": "Too few of the trusted keys signed: update the keys with watchword trust update, or get the "
    "missing signatures.",
    "receipt-authority": "Check with the keys of the authority that the receipt names, if you trust it.",
    "receipt-commitment": "The receipt was altered: fetch it again, and compare with watchword log monitor.",
    "receipt-tag": "The authority filed this decision where you do not look for it. Keep the receipt, and ask why.",
    "receipt-gap": "A decision about your launch is kept from you, or the file is incomplete: fetch it again. "
    + _TENANT,
    "checkpoint-signature": "The log's key is not one that you know: watchword trust update. If it stays, keep the "
    "checkpoint.",
    "checkpoint-origin": "The checkpoint is of another authority's log: look at the address and the file.",
    "log-inclusion": "The receipt was altered, or the log is another one: keep both and ask the authority.",
    "log-fork": "The authority showed two different logs: keep both checkpoints, show them to others, do not trust it.",
    "log-rollback": "The authority lost or hides decisions that it showed before: ask it; do not trust it until then.",
    "log-witnesses": "Your witnesses have not seen this checkpoint: try again later, or ask them what they saw.",
    "log-tile": "What the authority serves is not what it signed: its database or a cache was altered. Tell it.",
    "log-entry": "An entry was altered after it was logged: the authority's database was changed. Tell it.",
    "log-withheld": "Somebody may have got the secret without your knowledge. " + _TENANT,
    "log-unlisted": "Your name is used for a stack that the log does not have: ask the authority, and warn others.",
    "receipt-mismatch": "The authority's answer is about something else than was asked. " + _TENANT,
    "receipt-missing": "The secret was released without a record, or another authority released it. " + _TENANT,
    "releases-count": "The secret was given out more often than you launched. " + _TENANT,
    "launch-refused": "The authority's findings follow: they say what to change on the host.",
    "level-too-low": "The secret went to a host below the level demanded. " + _TENANT,
    "released-late": "The secret was released after the token's end. " + _TENANT,
    "keylist-fingerprint": "The keys are not those that you pinned: compare the fingerprint with the auditor "
    "in person.",
    "keylist-version": "The key lists do not follow each other: fetch them again; if it persists, ask the auditor.",
    "keylist-changed": "Two connections saw different keys: somebody may stand in between. Use another network.",
    "keylist-rollback": "The authority shows older keys than before: somebody may replay them. Ask the auditor.",
    "keylist-fork": "The authority shows other keys than it did. Do not go on before the auditor explained it.",
    "tls-ca": "The authority's key list has no TLS certificate authority: its operator has to issue a new list.",
    "tls-untrusted": "The server is not the pinned authority: check the address, and who is in between.",
    "ssh-host-key": "The machine does not hold the key that only an approved host learned. " + _TENANT,
    "jwt-algorithm": "The result is signed in a way that is not accepted: ask its issuer for an Ed25519 signature.",
    "jwt-critical": "The result demands something that this version does not know: update watchword, or refuse it.",
    "jwt-header": "The result says where its own key is found; such a key proves nothing. Ask its issuer for another.",
    "jwt-key": "The result is signed by a key that you do not trust: check which authority it is from.",
    "jwt-signature": "The result was altered. Fetch it again from its origin.",
    "ear-expired": "Ask for a new result: this one is past its end.",
    "ear-status": "The result says that the host is not to be trusted; 'watchword explain' shows its findings.",
    "ear-future": "Compare your clock with the issuer's.",
}

_SHARES = {
    "bundle": "Give one token, or all tokens of one split secret with their one launch set.",
    "share-purpose": "Give the agent all tokens of the launch and their launch set; an old agent knows no shares.",
    "share-false": "This authority released something else than it was given. Launch with the others; ask who runs it.",
    "share-set": "Tokens and launch set are of two launches: give those that were made together.",
    "share-duplicate": "Give each token once. If you did, one authority answered with the share of another.",
    "share-missing": "This authority could not be asked, or answered with none: what happened is said beside it.",
    "shares-few": "Too many authorities refused their share: the findings say who and why.",
    "shares-unreleased": "Fewer authorities released to this machine than are needed. " + _TENANT,
    "share-run": "A host gave up half way, or another one has a share. Launch again with new tokens.",
    "authorities-silent": "Try again when the authorities that are named can be reached.",
    "receipt-malformed": "This authority answers with something that is no receipt: ask who runs it.",
}

_SERVICE = {
    "token-void": "The authority began a new epoch after its store was restored: update its keys. " + _RELAUNCH,
    "backup-malformed": "The backup is damaged, or no backup; nothing was put in place. Take another copy.",
    "root-request-key": "This key is the root of neither list in the request: take the right one.",
    "root-request-signed": "The root signed another list with this number. If it was never installed, destroy it and "
    "say so; if it was, somebody asks for a fork.",
    "root-request-other": "The root signed something that nobody asked for here: write the request again.",
    "event-forked": "Ask the authority how the hosts stand, and find out who is in between.",
    "event-missing": "An event was dropped on the way: ask the authority how the hosts stand.",
    "event-repeated": "You had this event: take it off the queue.",
}

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        **_IDENTITY,
        **_QUOTE,
        **_BOOT,
        **_RUNTIME,
        **_STACK,
        **_RELEASES,
        **_LAUNCH,
        **_DOCUMENTS,
        **_SHARES,
        **_SERVICE,
    }
)


def advice_for(code: str) -> str:
    """What to do about a finding with ``code``; a general sentence for a code that this version does not know."""
    return ADVICE.get(
        code, "This version has no advice for this code: see the documentation of the one that raised it."
    )
