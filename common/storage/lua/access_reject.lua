-- access_reject: the vendor would not take this access token. Out with it, once for the fleet.
-- KEYS[1] push:access:<lane>:<version>         string: the encrypted token
-- KEYS[2] push:access:<lane>:<version>:forced  string: a token was rejected lately
-- ARGV    the encrypted token as it was read, seconds in which the vendor's word is believed once
-- returns 1: it is out; 0: another was first, or the word came too soon again
-- why     between two calls a third process could read the bad token and send with it
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if not redis.call('SET', KEYS[2], '1', 'NX', 'EX', ARGV[2]) then return 0 end
redis.call('DEL', KEYS[1])
return 1
