-- bindings: which tokens these devices have now.
-- KEYS[1..n]  push:bind:{app:user}  hash: device -> digests of its tokens, "-" none
-- ARGV        per key the device
-- returns     per key the field, false where there is none
-- why         one command for a batch of 500: each waits for the answer before it may be sent
local found = {}
for i, key in ipairs(KEYS) do found[i] = redis.call('HGET', key, ARGV[i]) end
return found
