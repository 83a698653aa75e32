-- lease: takes or renews leases of roles of the maintenance process.
-- KEYS    per lease push:{s0}:lease:<role>  string: the holder's word, with a time to live
--         and push:{s0}:lease-epoch:<role>  counter: how often the lease changed hands
-- ARGV    per lease the asker's word, time to live in ms
-- returns per lease the epoch when the asker holds it, else 0
-- why     an epoch that is older than the counter belongs to a process that stood still: what it writes is refused; all are read by one
--         command, as they are renewed all the time
local call, told, out = redis.call, redis.call('MGET', unpack(KEYS)), {}
for i = 1, #KEYS, 2 do
  local holder, epoch, n = told[i], told[i + 1], #out + 1
  if holder and holder ~= ARGV[i] then
    out[n] = 0
  elseif holder then
    call('PEXPIRE', KEYS[i], ARGV[i + 1])
    out[n] = tonumber(epoch) or call('INCR', KEYS[i + 1])
  else
    call('DEL', KEYS[i]) -- a delete first: a server without free memory refuses a script that begins by adding
    call('SET', KEYS[i], ARGV[i], 'PX', ARGV[i + 1])
    out[n] = call('INCR', KEYS[i + 1])
  end
end
return out
