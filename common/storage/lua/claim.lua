-- claim: leases on push ids for one batch, so that a repeated fan-out sends nothing twice; takes the badge number with it.
-- KEYS[1..n]     push:claim:<day>:<4 hex>   hash: push id -> "D" done, "L<entry>|<badge>" leased by a stream entry, "R<badge>" released
-- KEYS[n+1..2n]  push:badge:{app:user}      hash: <device>:b base, <device>:n pushes since; the device "" has the base of those without
-- KEYS[2n+1..3n] push:gone:<app>:<message>  string: why nothing of this message may be sent any more ("recalled", "call_ended", …)
-- KEYS[3n+1..4n] push:read:{app:user}       hash: <conversation> -> read up to this ts, ms; m:<message>; c:<call> -> ts of this person's answer
-- ARGV[1] n, ARGV[2] seconds a claim is kept, ARGV[3] seconds a badge is kept; then per push: push id, entry id, device,
--         increment (-1: badge not touched), conversation ("" = can't be read), message, ts
-- returns per push {state, badge, why}: 0 ours, 1 done already, 2 leased by another entry, 3 gone (why: the decision); badge -1: none
-- why            an entry that is delivered again may take its own lease (its reader is dead), a twin in another entry may not;
--                the badge is counted once per push id however often the push is tried
local n, keep, keep_badge = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local out = {}
for i = 1, n do
  local at = 3 + (i - 1) * 7
  local id, entry, device, step = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], tonumber(ARGV[at + 4])
  local old = redis.call('HGET', KEYS[i], id)
  local state, badge, why = 0, -1, ''
  if old == 'D' then
    state = 1
  else
    local gone = redis.call('GET', KEYS[2 * n + i])
    if not gone and ARGV[at + 5] ~= '' then
      local read = redis.call('HMGET', KEYS[3 * n + i], ARGV[at + 5], 'm:' .. ARGV[at + 6], 'c:' .. ARGV[at + 6])
      -- 2 s of grace: the invitation's clock and the answer's may differ; what comes later is a new invitation into the call
      if read[3] and tonumber(ARGV[at + 7]) <= tonumber(read[3]) + 2000 then
        gone = 'call_ended'
      elseif read[2] or (read[1] and tonumber(ARGV[at + 7]) <= tonumber(read[1])) then
        gone = 'read_elsewhere'
      end
    end
    local kind = old and string.sub(old, 1, 1)
    if kind == 'L' then
      local owner, number = string.match(old, '^L([^|]*)|(.*)$')
      if owner ~= entry then state = 2 end
      badge = tonumber(number)
    elseif kind == 'R' then
      badge = tonumber(string.sub(old, 2))
    end
    if state == 0 and gone then
      -- leased by this very entry before: its first reader died, perhaps after it had sent
      state, why = 3, kind == 'L' and 'uncertain' or gone
    elseif state == 0 then
      if badge == -1 and step >= 0 then
        local bases = redis.call('HMGET', KEYS[n + i], device .. ':b', ':b')
        badge = tonumber(bases[1] or bases[2] or '0') + redis.call('HINCRBY', KEYS[n + i], device .. ':n', step)
        redis.call('EXPIRE', KEYS[n + i], keep_badge)
      end
      redis.call('HSET', KEYS[i], id, 'L' .. entry .. '|' .. badge)
      redis.call('EXPIRE', KEYS[i], keep)
    end
  end
  out[i] = {state, badge, why}
end
return out
