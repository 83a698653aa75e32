-- backlog: of pushes that an outage held back, who else of the same conversation waits for the same device?
-- KEYS[2i-1] push:backlog:<group>    zset: push id -> ts of its event, ms: the group's pushes that wait and are not decided
-- KEYS[2i]   push:backlog:<group>:m  hash: since (when the first of them was received, ms; see join.lua), upto (ts that the last one
--                                    spoke for), patience (until when the others wait for the newest, ms)
-- ARGV[1] n, ARGV[2] patience in ms, ARGV[3] age in ms from which a backlog folds, ARGV[4] seconds to keep a group, ARGV[5] the time in
--         tests, else "", then per group asked about a push id, when it was received, ms, and "", or the ts of its event, ms: one that is in
--         no group joins it
-- returns per push {in the group, upto, newest id, its ts, how many wait that nobody spoke for, wait for the newest, old enough to fold}
-- why     a backlog comes back in many rounds of many processes: only together they know which one is the newest
local n, patience, fold_after, keep, now_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
if not now_ms then
  local t = redis.call('TIME')
  now_ms = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end
local asked = {}
for i = 1, n do asked[ARGV[3 + 3 * i]] = true end
local out = {}
if n > 0 then redis.call('HDEL', KEYS[2], '') end -- a delete first: a server without free memory refuses a script that begins by adding
for i = 1, n do -- all of them, before the first is looked at
  local group, id, ts = KEYS[2 * i - 1], ARGV[3 + 3 * i], ARGV[5 + 3 * i]
  if ts ~= '' and not redis.call('ZSCORE', group, id) then join(group, KEYS[2 * i], id, ts, ARGV[4 + 3 * i], keep) end
end
for i = 1, n do
  local group, marks, id = KEYS[2 * i - 1], KEYS[2 * i], ARGV[3 + 3 * i]
  if not redis.call('ZSCORE', group, id) then
    out[i] = {0, 0, '', 0, 0, 0, 0}
  else
    local m = redis.call('HMGET', marks, 'upto', 'patience', 'since')
    local upto = m[1] or '0'
    local last = redis.call('ZREVRANGEBYSCORE', group, '+inf', '(' .. upto, 'WITHSCORES', 'LIMIT', 0, 1)
    local since = math.min(tonumber(ARGV[4 + 3 * i]), tonumber(m[3] or 'inf'))
    local ripe, waits = now_ms - since >= fold_after and 1 or 0, 0
    if ripe == 1 and last[1] and not asked[last[1]] then
      local till = tonumber(m[2])
      if not till or till - now_ms > patience then -- longer than ever set: the clock stepped back
        till = now_ms + patience
        redis.call('HSET', marks, 'patience', string.format('%d', till))
        redis.call('EXPIRE', marks, 86400)
      end
      if now_ms < till then waits = 1 end
    end
    out[i] = {1, tonumber(upto), last[1] or '', tonumber(last[2] or '0'), redis.call('ZCOUNT', group, '(' .. upto, '+inf'), waits, ripe}
  end
end
return out
