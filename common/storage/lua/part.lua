-- part: entries of a stream become other entries at its end.
-- KEYS[1]  a stream of the core
-- ARGV     group, how many entries leave, their ids, then field `b` of each new one
-- returns  the number of new ones
-- why      in one step, and the first write frees: a full server judges a script by it, and takes no XADD in a MULTI
local leaving = tonumber(ARGV[2])
for i = 3, 2 + leaving do
  redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
  redis.call('XDEL', KEYS[1], ARGV[i])
end
for i = 3 + leaving, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'b', ARGV[i])
end
return #ARGV - 2 - leaving
