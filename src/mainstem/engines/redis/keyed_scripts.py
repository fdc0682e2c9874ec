"""
What the server decides about a partition: who owns it, and whether a commit still counts. Only Lua.

KEYS of one script share the slot of one partition (or of one stream's members). A script decides everything before
its first write, because the server rolls nothing back. A late owner whom nobody replaced is still right: owner and
token are compared, never the time.
"""

from __future__ import annotations

from mainstem.engines.redis.scripts import lua

_NOW = """
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
local function whole(n) return string.format('%.0f', n) end
"""

_OWNED = """
local s = redis.call('HMGET', KEYS[1], 'owner', 'token', 'read', 'once', 'cursor')
if not s[2] then return redis.error_reply('GONE the state of this partition was deleted') end
if s[1] ~= ARGV[1] or s[2] ~= ARGV[2] then return redis.error_reply('LOST another member owns this partition') end
"""

_LOG = """
local function log(key)
  local info = redis.pcall('XINFO', 'STREAM', key)
  if info.err then return {'0', '0', '', '0-0'} end
  local facts = {}
  for i = 1, #info, 2 do facts[info[i]] = info[i + 1] end
  local first = facts['first-entry']
  return {whole(facts['entries-added']), whole(facts['length']), first and first[1] or '', facts['last-generated-id']}
end
"""

FOUND = lua(
    _NOW,
    _LOG,
    """
-- KEYS: state, log. ARGV[1]: the group; ARGV[2]: 'beginning' or 'end', where it starts if it is new.
if redis.call('HEXISTS', KEYS[1], 'cursor') == 1 then return 0 end
local cursor, read = '0-0', '0'
if ARGV[2] == 'end' then
  local about = log(KEYS[2])
  cursor, read = about[4], about[1]
end
redis.call('HSET', KEYS[1], 'cursor', cursor, 'read', read)
redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[1], cursor, 'MKSTREAM', 'ENTRIESREAD', read)
return 1
""",
)

ACQUIRE = lua(
    _NOW,
    _LOG,
    """
-- KEYS: state, log. ARGV[1]: me; ARGV[2]: lease in ms. A former owner that is still written there never released: it
-- crashed. The second bound on `until` survives a clock that was set back.
local s = redis.call('HMGET', KEYS[1], 'owner', 'token', 'until', 'cursor', 'read', 'done', 'try')
local lease, former, ends = tonumber(ARGV[2]), s[1] or '', tonumber(s[3] or '0')
if former ~= '' and former ~= ARGV[1] and now < ends and ends <= now + 2 * lease then return {0} end
local token = whole(math.max(tonumber(s[2] or '0') + 1, now))
local about = log(KEYS[2])
if former ~= '' and former ~= ARGV[1] then redis.call('HINCRBY', KEYS[1], 'crashes', 1) end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'until', whole(now + lease), 'token', token)
local crashes = redis.call('HGET', KEYS[1], 'crashes') or '0'
return {1, token, s[4] or '0-0', s[5] or '0', s[6] or '', s[7] or '', crashes, about[1], about[2], about[3], about[4]}
""",
)

RENEW = lua(
    _NOW,
    "-- KEYS: state. ARGV: me, token, lease in ms.",
    _OWNED,
    """
redis.call('HSET', KEYS[1], 'until', whole(now + ARGV[3]))
return 1
""",
)

COMMIT = lua(
    "-- KEYS: state, log, dead, again. ARGV: me, token, group, cursor, read, once, lost, how many arguments for HSET",
    "-- follow, these, how many ids to take off `again`, these, and for each dead letter how many fields, these.",
    "-- `once` numbers what may not be applied twice: a lost reply makes the owner send the same commit again.",
    _OWNED,
    """
local function parts(id)
  local ms, seq = string.match(id, '^(%d+)%-(%d+)$')
  return tonumber(ms), tonumber(seq)
end
if s[5] and s[5] ~= ARGV[4] then
  local ms, seq = parts(ARGV[4])
  local was_ms, was_seq = parts(s[5])
  if ms < was_ms or (ms == was_ms and seq < was_seq) then
    return redis.error_reply('REGRESS the cursor would go back')
  end
end
local fields = tonumber(ARGV[8])
local once = ARGV[6] ~= ''
if once then
  local token, number = string.match(s[4] or '', '^(%d+)%.(%d+)$')
  once = token ~= ARGV[2] or tonumber(number) < tonumber(string.match(ARGV[6], '%d+$'))
end
if once then
  local at = 9 + fields
  redis.call('HSET', KEYS[1], 'once', ARGV[6])
  if ARGV[7] ~= '0' then redis.call('HINCRBY', KEYS[1], 'lost', ARGV[7]) end
  local taken = tonumber(ARGV[at])
  if taken > 0 then redis.call('XDEL', KEYS[4], unpack(ARGV, at + 1, at + taken)) end
  at = at + 1 + taken
  while ARGV[at] do
    local count = tonumber(ARGV[at])
    redis.call('XADD', KEYS[3], '*', unpack(ARGV, at + 1, at + count))
    at = at + 1 + count
  end
end
if s[5] ~= ARGV[4] or s[3] ~= ARGV[5] then
  redis.call('HSET', KEYS[1], 'cursor', ARGV[4], 'read', ARGV[5], unpack(ARGV, 9, 8 + fields))
  if redis.pcall('XGROUP', 'SETID', KEYS[2], ARGV[3], ARGV[4], 'ENTRIESREAD', ARGV[5]).err then
    redis.pcall('XGROUP', 'CREATE', KEYS[2], ARGV[3], ARGV[4], 'MKSTREAM', 'ENTRIESREAD', ARGV[5])
  end
elseif fields > 0 then
  redis.call('HSET', KEYS[1], unpack(ARGV, 9, 8 + fields))
end
return 1
""",
)

RELEASE = lua(
    "-- KEYS: state. ARGV: me, token, 1 when no crash is suspected any more.",
    _OWNED,
    """
redis.call('HSET', KEYS[1], 'owner', '', 'until', '0')
if ARGV[3] == '1' then redis.call('HDEL', KEYS[1], 'crashes') end
return 1
""",
)

CHECK = lua(
    _NOW,
    _LOG,
    "-- KEYS: state, log. ARGV: me, token, position. Whether the entry at this position is still there, and the log.",
    _OWNED,
    """
local about = log(KEYS[2])
return {#redis.call('XRANGE', KEYS[2], ARGV[3], ARGV[3]), about[1], about[2], about[3], about[4]}
""",
)

LOOK = lua(
    _NOW,
    _LOG,
    """
-- KEYS: log, again. ARGV[1]: the restored letter seen last. The log, and what was restored since.
local about = log(KEYS[1])
about[5] = redis.call('XRANGE', KEYS[2], '(' .. ARGV[1], '+', 'COUNT', 10)
return about
""",
)

SPAN = lua("""
-- KEYS: log. ARGV: the first and the last id of a run. How many of its entries are still there.
return #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2])
""")

BEAT = lua(
    _NOW,
    """
-- KEYS: members. ARGV[1]: me; ARGV[2]: lease in ms. A member that died is gone from here when its partitions are free.
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', whole(now))
redis.call('ZADD', KEYS[1], whole(now + ARGV[2]), ARGV[1])
return 1
""",
)

MEMBERS = lua(_NOW, "return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. whole(now), '+inf')")
