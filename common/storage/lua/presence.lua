-- presence: who has a live connection now, for hundreds of users in one call.
-- KEYS    im:presence:{<app>:<user>}  hash: device id -> "<state>|<platform>|<expires_ms>[|<since_ms>]"
-- returns {now in ms by the server's clock, for each key its fields and values as one flat list, nil for a key that is no hash}
-- why     one round trip and one clock, the server's, for a whole batch; one person's broken key must not cost all others their answer
local t = redis.call('TIME')
local out = {}
for i = 1, #KEYS do
  local fields = redis.pcall('HGETALL', KEYS[i])
  out[i] = not fields.err and fields
end
return {t[1] * 1000 + math.floor(t[2] / 1000), out}
