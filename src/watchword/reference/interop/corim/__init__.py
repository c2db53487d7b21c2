"""CoRIM (draft-ietf-rats-corim): the part of it that carries reference measurements."""
