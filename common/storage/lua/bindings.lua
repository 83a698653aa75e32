-- bindings: which tokens these devices have now.
-- KEYS[1] push:bind:   prefix + {app:user}  hash: device -> digests of its tokens, "-" none
-- ARGV[1] MessagePack: a flat list of app, user, device, …
-- returns MessagePack: per device the field, "" where there is none
-- why     one command for a batch of 500, each of which waits for the answer before it may be sent; packed as in claim.lua
local asks, found = cmsgpack.unpack(ARGV[1]), {}
for i = 1, #asks / 3 do
  local at = i * 3
  found[i] = redis.call('HGET', KEYS[1] .. '{' .. asks[at - 2] .. ':' .. asks[at - 1] .. '}', asks[at]) or ''
end
return cmsgpack.pack(found)
