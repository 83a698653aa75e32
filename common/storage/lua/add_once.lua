-- add_once: adds one entry to a stream, unless this was done before under the same name.
-- KEYS[1] push:{s0}:replayed:<letter>  string: it is there again
-- KEYS[2] the stream
-- ARGV    seconds to remember the name, the entry's bytes
-- returns 1 when it was added
-- why     who dies between this and the end of the letter replays it once more: its pushes would go out twice
if not redis.call('SET', KEYS[1], '1', 'NX', 'EX', ARGV[1]) then return 0 end
redis.call('XADD', KEYS[2], '*', 'b', ARGV[2])
return 1
