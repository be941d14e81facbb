#!/usr/bin/env bash
# The software bill of materials, and what is known against what is in it.
# Exit status: 0 nothing known, 1 something is, 75 it could not be asked: then nothing is known.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
tools=$1
mkdir -p out
"$tools/cyclonedx-py" requirements requirements.lock --output-format JSON --output-file out/sbom.json
echo "written: out/sbom.json ($(grep -c '"bom-ref"' out/sbom.json) entries)"
echo "shipped to browsers, by hand in console/static/vendor (not in the SBOM):"
cat console/static/vendor.sha256
status=0
"$tools/pip-audit" --disable-pip --no-deps --requirement requirements.lock --format json \
  --progress-spinner off --output out/audit.json 2>out/audit.log || status=$?
[ -s out/audit.json ] || { echo "audit: NOT CHECKED: the vulnerability service did not answer; see out/audit.log" >&2; exit 75; }
"$tools/python" - <<'PYTHON'
import json, sys
found = json.load(open("out/audit.json"))["dependencies"]
skipped = [each["name"] for each in found if "skip_reason" in each]
known = [(e["name"], e["version"], v["id"]) for e in found for v in e.get("vulns", ())]
for each in known:
    print("known vulnerability:", *each)
print(f"{len(found) - len(skipped)} of {len(found)} packages checked, {len(known)} vulnerabilities")
if skipped:
    print(f"audit: NOT CHECKED: {len(skipped)} packages; the service does not answer for them.",
          "Run it where it is reached.", file=sys.stderr)
sys.exit(1 if known else 75 if skipped else 0)
PYTHON
