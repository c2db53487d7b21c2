"""Keys that live in PKCS#11 tokens: how they are named, found and used. Needs the extra ``pkcs11`` when used."""
