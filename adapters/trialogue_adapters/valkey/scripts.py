"""What must happen at once in the store, as scripts. Their texts are constant: keys and values are arguments only.

`CLAIM` is the one way to own a session and the only thing that makes a stream. It looks at the owner, takes an epoch
that is greater than every former one (the floor is kept outside the stream: a stream that was trimmed, deleted or
flushed must not let an old epoch back in), and writes the fence, all in one step.
"""

CLAIM = b"""
local owner = redis.call('GET', KEYS[2])
local me, expected = ARGV[1], ARGV[2]
if owner and owner ~= me and owner ~= expected then
  return {owner}
end
local floor = tonumber(redis.call('GET', KEYS[3]) or '0')
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local epoch, offset = math.max(floor, tonumber(ARGV[3])), ARGV[4]
if last then
  local top, at = string.match(last[1], '(%d+)-(%d+)')
  epoch = math.max(epoch, tonumber(top))
  offset = string.format('%.0f', tonumber(at) + tonumber(last[2][2]))
end
epoch = string.format('%.0f', math.max(epoch + 1, tonumber(ARGV[5])))
redis.call('XADD', KEYS[1], epoch .. '-' .. offset, 'n', '1', 'e', last and ARGV[6] or ARGV[7])
redis.call('SET', KEYS[2], me, 'PX', ARGV[8])
redis.call('SET', KEYS[3], epoch, 'PX', ARGV[9])
redis.call('PEXPIRE', KEYS[1], ARGV[8])
return {me, epoch, offset, last and 0 or 1}
"""
"""KEYS: log, owner, floor. ARGV: me, whom it may be taken from ("": nobody), the epoch known, the offset of a fresh
stream, the time now, the fence, the same of a fresh stream, how long log and owner live, how long the floor lives
(times in ms). Returns the owner; if that is `me`, also the fence's epoch and offset, and whether it made the stream."""

RELEASE = b"""
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
"""
"""KEYS: owner. ARGV: me."""
