-- make_group: a stream's group from its beginning, also on a server that is full.
-- KEYS[1] the stream
-- ARGV[1] group
-- why     a full server refuses XGROUP CREATE, and lets a script pass whose first write frees memory (no entry is called 0-0): what no group
--         reads is never acknowledged, and the server stays full
redis.call('XDEL', KEYS[1], '0-0')
return redis.call('XGROUP', 'CREATE', KEYS[1], ARGV[1], '0', 'MKSTREAM')
