#!/usr/bin/env bash
# `iat` says when a token was issued; RFC 7519 gives it no say in whether a token is good, as `nbf` and `exp` have. Yet a token
# of an issuer whose clock is two seconds ahead is refused by PyJWT 2.15.1 and joserfc 1.8.0 (PyPI) with their defaults: until
# their own clock has come that far. python-jose 3.5.0 (PyPI), jose 6.2.18, jsonwebtoken 9.0.3 and fast-jwt 6.3.6 (npm)
# take it.
#
# Seen: the lines below.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund jose@6.2.18 jsonwebtoken@9.0.3 fast-jwt@6.3.6 >/dev/null || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check PyJWT==2.15.1 joserfc==1.8.0 python-jose==3.5.0 || exit 2
cat > probe.mjs <<'JS'
import { SignJWT, jwtVerify } from 'jose';
import jsonwebtoken from 'jsonwebtoken';
import { createVerifier } from 'fast-jwt';

const secret = 'k'.repeat(32);
const key = new TextEncoder().encode(secret);
const now = Math.floor(Date.now() / 1000);
const token = await new SignJWT({ sub: 'someone', iat: now + 2, exp: now + 60 }).setProtectedHeader({ alg: 'HS256' }).sign(key);
const libraries = {
  jose: () => jwtVerify(token, key),
  jsonwebtoken: () => jsonwebtoken.verify(token, secret),
  'fast-jwt': () => createVerifier({ key: secret })(token),
};
for (const [name, verify] of Object.entries(libraries)) {
  try {
    await verify();
    console.log(`${name}: taken`);
  } catch (error) {
    console.log(`${name}: ${error.message}`);
  }
}
JS
cat > probe.py <<'PYTHON'
import time

import jose.jwt
import joserfc.jwk
import joserfc.jwt
import jwt

secret = "k" * 32
now = int(time.time())
claims = {"sub": "someone", "iat": now + 2, "exp": now + 60}
token = jwt.encode(claims, secret, algorithm="HS256")


def by_joserfc():
    read = joserfc.jwt.decode(token, joserfc.jwk.OctKey.import_key(secret))
    joserfc.jwt.JWTClaimsRegistry().validate(read.claims)


libraries = {
    "PyJWT": lambda: jwt.decode(token, secret, algorithms=["HS256"]),
    "joserfc": by_joserfc,
    "python-jose": lambda: jose.jwt.decode(token, secret, algorithms=["HS256"]),
}
for name, verify in libraries.items():
    try:
        verify()
        print(f"{name}: taken")
    except Exception as error:
        print(f"{name}: {type(error).__name__}")
PYTHON
{ node probe.mjs && v/bin/python -W ignore probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
jose: taken
jsonwebtoken: taken
fast-jwt: taken
PyJWT: ImmatureSignatureError
joserfc: InvalidClaimError
python-jose: taken
SEEN
