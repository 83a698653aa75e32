-- bounded: an entry's fields, cut where they are over the limit; their bytes; the entry's size where it is over the limit, else 0.
local function bounded(fields, limit, head)
  local size = 0
  for i = 1, #fields do
    size = size + #fields[i]
  end
  if limit == 0 or size <= limit then
    return fields, size, 0
  end
  local cut, kept = {}, 0
  for i = 1, math.min(#fields, 100), 2 do
    local most = (fields[i] == 'e' or fields[i] == 'b') and head or 4096
    cut[i], cut[i + 1] = string.sub(fields[i], 1, 4096), string.sub(fields[i + 1], 1, most)
    kept = kept + #cut[i] + #cut[i + 1]
  end
  return cut, kept, size
end
