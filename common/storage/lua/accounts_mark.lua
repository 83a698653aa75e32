-- accounts_mark: are these the accounts that were first read as of this version?
-- KEYS[1] push:config-version      string: the version's number
-- KEYS[2] push:accounts-mark       string: version:shape:digest
-- ARGV    the version, the shape of the digest, the digest of what was read
-- returns 0 when others were read as of it; 1 when the same, or nobody has told, or it is not the version of now
-- why     where there is no copy, nothing else tells a change whose notice was lost
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 1 end
local known = redis.call('GET', KEYS[2]) or ''
if string.sub(known, 1, #ARGV[1] + 1) ~= ARGV[1] .. ':' then
  redis.call('SET', KEYS[2], table.concat(ARGV, ':'))
  return 1
end
local shape = ARGV[1] .. ':' .. ARGV[2] .. ':' -- another release digests other fields
if string.sub(known, 1, #shape) ~= shape then return 1 end
return known == shape .. ARGV[3] and 1 or 0
