#!/usr/bin/env bash
# By `{"multipleOf": 0.01}` a schema asks for whole cents. ajv 8.20.0 and z-schema 6.0.2 (npm) and jsonschema 4.26.0 (PyPI)
# divide by 0.01 in binary and look whether the result is whole: of the 10,000 prices from 0.00 to 99.99 they refuse some,
# such as 0.29 and 19.99. @cfworker/json-schema 4.1.6, jsonschema 1.5.0 (npm) and jsonschema-rs 0.61.2 (PyPI) take all of them.
#
# Seen: the counts below.
# Exits 0 while it is so, 1 once it is not, 2 where it can't be tried.
set -euo pipefail
dir=$(mktemp -d) && trap 'rm -rf "$dir"' EXIT && cd "$dir"
npm init -y >/dev/null && npm install --silent --no-audit --no-fund \
  ajv@8.20.0 z-schema@6.0.2 @cfworker/json-schema@4.1.6 jsonschema@1.5.0 >/dev/null 2>&1 || exit 2
python3 -m venv v && v/bin/python -m pip install -q --disable-pip-version-check jsonschema==4.26.0 jsonschema-rs==0.61.2 || exit 2
cat > probe.mjs <<'JS'
import Ajv from 'ajv/dist/2020.js';
import ZSchema from 'z-schema';
import { Validator } from '@cfworker/json-schema';
import { Validator as OfJsonschema } from 'jsonschema';

const schema = { type: 'number', multipleOf: 0.01 };
const prices = Array.from({ length: 10_000 }, (_, cents) => Number(`${Math.floor(cents / 100)}.${String(cents % 100).padStart(2, '0')}`));
const z = new ZSchema();
const validators = {
  ajv: new Ajv().compile(schema),
  'z-schema': (value) => z.validate(value, schema),
  '@cfworker/json-schema': (value) => new Validator(schema, '2020-12').validate(value).valid,
  'jsonschema (npm)': (value) => new OfJsonschema().validate(value, schema).valid,
};
for (const [name, valid] of Object.entries(validators)) {
  console.log(`${name}: refuses ${prices.filter((price) => !valid(price)).length}, 19.99 ${valid(19.99) ? 'is' : 'is not'} valid`);
}
JS
cat > probe.py <<'PYTHON'
import jsonschema
import jsonschema_rs

SCHEMA = {"type": "number", "multipleOf": 0.01}
prices = [float(f"{cents // 100}.{cents % 100:02}") for cents in range(10_000)]
for name, validator in ("jsonschema (PyPI)", jsonschema.Draft202012Validator), ("jsonschema-rs", jsonschema_rs.Draft202012Validator):
    valid = validator(SCHEMA).is_valid
    print(f"{name}: refuses {sum(not valid(price) for price in prices)}, 19.99 {'is' if valid(19.99) else 'is not'} valid")
PYTHON
{ node probe.mjs && v/bin/python probe.py; } > seen || { cat seen; exit 1; }
cat seen
diff -q seen - >/dev/null <<'SEEN' || exit 1
ajv: refuses 1363, 19.99 is not valid
z-schema: refuses 1146, 19.99 is not valid
@cfworker/json-schema: refuses 0, 19.99 is valid
jsonschema (npm): refuses 0, 19.99 is valid
jsonschema (PyPI): refuses 1363, 19.99 is not valid
jsonschema-rs: refuses 0, 19.99 is valid
SEEN
