-- node_take: may this push of an XMPP node go? Of equal words of a moment one, and only so many of a node.
-- KEYS[1] push:{<node>}:node          string: when the node's bucket is full again, ms
-- KEYS[2] push:{<node>}:said:<words>  string: these words went out a moment ago
-- ARGV[1] pushes of a full bucket, 0: no bucket; [2] ms until one more, [3] for how long equal words are one push, ms; 0: always
-- returns 0: it may go, 1: the same was said, 2: the bucket is empty
-- why     servers announce all that waits for a person again, minutes later and at once, and name no message
if ARGV[3] ~= '0' and redis.call('EXISTS', KEYS[2]) == 1 then return 1 end
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local most, each = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(tonumber(redis.call('GET', KEYS[1]) or '0'), now) + each
if most > 0 and full - now > most * each then return 2 end
if most > 0 then redis.call('SET', KEYS[1], string.format('%d', full), 'PX', most * each) end
if ARGV[3] ~= '0' then redis.call('SET', KEYS[2], '1', 'PX', ARGV[3]) end
return 0
