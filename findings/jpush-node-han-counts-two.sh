#!/bin/sh
# Guess: isIosExceedLength and isGlobalExceedLength of JPush's own client for Node tell whether a push is too long. Its limit of
#   2000 for the ios part is one of bytes, and a push travels in UTF-8, so a Chinese character counts three.
# Behaviour: jpush-async 4.2.0 counts the bytes of UTF-16 code units with leading zeros left out: two for a Chinese character, one for Latin, so
#   it is right in English and a third short in Chinese. 900 characters are 1812 for it and "fit", 2712 bytes on the wire. With a message beside the
#   notification isIosExceedLength measures that message only.
# Versions: jpush-async 4.2.0, Node 20. Date: 2026-11-29.
# Seen: "900 Chinese characters: 2712 bytes, exceeds: false; 2100 Latin letters: 2112 bytes, exceeds: true; the same beside a short message: false"
# Exits 1 when the Chinese text exceeds, too. Needs node and npm.
set -eu
here=$(mktemp -d)
trap 'rm -rf "$here"' EXIT
cd "$here"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts jpush-async@4.2.0 >/dev/null
cat > push.js <<'JS'
const JPush = require("jpush-async").JPush;

const client = JPush.buildClient("0123456789abcdef01234567", "0123456789abcdef01234567");

function exceeds(text, message) {
  const push = client.push().setPlatform("ios").setAudience(JPush.ALL).setNotification(JPush.ios(text));
  return (message ? push.setMessage(message) : push).isIosExceedLength();
}

const [chinese, latin] = ["\u4f60".repeat(900), "a".repeat(2100)];
const bytes = (text) => Buffer.byteLength(JSON.stringify({ alert: text }));
const seen = [exceeds(chinese), exceeds(latin), exceeds(latin, "hi")];
console.log(
  `900 Chinese characters: ${bytes(chinese)} bytes, exceeds: ${seen[0]}; 2100 Latin letters: ${bytes(latin)} bytes, exceeds: ${seen[1]}; ` +
    `the same beside a short message: ${seen[2]}`,
);
process.exit(String(seen) === "false,true,false" ? 0 : 1);
JS
node push.js
