-- let_go: gives claims back, so that another entry may send these pushes; what nobody can have seen gives its badge number back.
-- KEYS        per push push:claim:<day>:<4 hex>   hash: push id -> "D" done, "L<entry>|<count>" leased, "R<count>" released;
--             and push:badge:{app:user}           hash: <device>:n pushes since, <device>:t, :t when that count began
-- ARGV        per push: push id, owner ("" = whoever: the caller finished its round), device, 1 it may be on the screen, else 0
-- returns     how many were given back
-- why         a reader that was stopped for a while and goes on must not open again what another has finished meanwhile; an entry that is
--             split or buried takes its leases with it, or the pushes would wait for an owner that is gone; a number that was counted
--             before the app came to the front is not taken off the count that began then
if KEYS[1] then redis.call('HDEL', KEYS[1], '') end -- a full server judges a script by its first write: one that frees is let pass
local given = 0

-- takes a count ("<step>@<epoch>") off the device's badge, if it still stands in it
local function uncount(key, device, count)
  local step, epoch = string.match(count, '^(%d+)@(.*)$')
  if not step or step == '0' then return end
  local told = redis.call('HMGET', key, device .. ':t', ':t', device .. ':n')
  if epoch == (told[1] or told[2] or '0') and tonumber(told[3] or '0') >= tonumber(step) then
    redis.call('HINCRBY', key, device .. ':n', -tonumber(step))
  end
end

for i = 1, #KEYS / 2 do
  local claims, badges, at = KEYS[i * 2 - 1], KEYS[i * 2], (i - 1) * 4
  local id, owner, device, seen = ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], ARGV[at + 4] == '1'
  local old = redis.call('HGET', claims, id) or ''
  local holder, count = string.match(old, '^L([^|]*)|(.*)$')
  if not holder then count = string.match(old, '^R(.*)$') or '' end
  if (owner == '' and old ~= 'D') or (owner ~= '' and holder == owner) then
    if not seen then
      uncount(badges, device, count)
      count = ''
    end
    redis.call('HSET', claims, id, 'R' .. count)
    given = given + 1
  end
end
return given
