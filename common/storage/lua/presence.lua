-- presence: who has a live connection now, for hundreds of users in one call.
-- KEYS    im:presence:{<app>:<user>}  hash: device id -> "<state>|<platform>|<expires_ms>[|<since_ms>]"
-- returns {now in ms by the server's clock, for each key its fields and values as one flat list}
-- why     one round trip and one clock, the server's, for a whole batch
local t = redis.call('TIME')
local out = {}
for i = 1, #KEYS do out[i] = redis.call('HGETALL', KEYS[i]) end
return {t[1] * 1000 + math.floor(t[2] / 1000), out}
