"""What firmware, boot loaders and kernel will measure, computed from the files of a release.

    events.py         one predicted event, and the maker of them for the banks that were asked for
    variables.py      Secure Boot variables from files or from an OVMF variable store
    authenticode.py   which certificate vouches for a program
    secureboot.py     PCR 7: the policy, and the entry of db that let a program run
    firmware.py       PCR 4 and 5: what firmware itself does around the programs that it starts
    linux.py          PCR 9: the kernel's EFI stub
    stub.py           PCR 11, 12 and 13: systemd's stub in a unified kernel image
    loader.py         PCR 12: systemd-boot
    shim.py           PCR 7 and 14: shim
    grub.py           PCR 8 and 9: GRUB, and grub_script.py, the part of its language that is understood
    direct.py         PCR 4 and 9: QEMU's -kernel
    sheet.py          PCR 0, 2 and 3: captured, since firmware's sources are not among a release's files

What the programs themselves are measured as is in ``wire.pe``. Nothing is guessed: a version of a boot loader whose
measurements were not compared with a real boot is refused with a MalformedError or UsageError that names it.
"""
