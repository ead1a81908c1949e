-- What a script sees: the globals that Redis allows, none of which it can change.
--
-- Tables can't be made read-only in plain Lua. So a run gets empty tables of its own that show what
-- lies behind them: whatever a script smuggles into one (with table.insert, say) is gone with the
-- run, and no other run can see it.
--
-- Called once with the globals of a fresh interpreter and the functions written in Rust; returns
-- what makes the globals of a run, and what calls the script's function with a handler for its
-- failure.

local native, host = ...
local pcall, xpcall, setmetatable = native.pcall, native.xpcall, native.setmetatable
local resume, concat = native.coroutine.resume, native.table.concat
local select, unpack = native.select, native.unpack
local plain, words, checked = host.plain, host.words, host.checked

-- *Lua's own `pcall` and `xpcall` never see more than a few results.* They push their verdict above
-- all results without asking for room on the stack; with many that is past its end, where a build
-- with Lua's assertions aborts. So many results come through them as one table.
local FEW = 8

local function gathered(...)
  local count = select("#", ...)
  if count > FEW then return count, { ... } end
  return count, ...
end

-- In brackets the function has no name, and so none in the message if it is none.
local function invoke(...)
  return gathered((...)(select(2, ...)))
end

local function scattered(count, ...)
  if count > FEW then return unpack((...), 1, count) end
  return ...
end

-- Protected calls give errors as Lua or Redis would have raised them, and let the end of the script
-- pass: `plain`, `words` and `checked` raise it again.

local function settled(ok, ...)
  if ok then return true, ... end
  return false, plain((...))
end

local function worded(ok, ...)
  if ok then return true, scattered(...) end
  return false, words((...))
end

local function handled(ok, ...)
  if ok then return true, scattered(...) end
  return false, checked((...))
end

local builtins = {
  _VERSION = native._VERSION,
  pcall = function(...)
    if select("#", ...) == 0 then return pcall() end
    return worded(pcall(invoke, ...))
  end,
  xpcall = function(body, handler)
    return handled(xpcall(
      function() return invoke(body) end,
      function(problem) return handler(plain(problem)) end
    ))
  end,
  load = function(piece, name)
    local pieces = {}
    while true do
      local text = piece()
      if text == nil or text == "" then break end
      pieces[#pieces + 1] = text
    end
    return host.loadstring(concat(pieces), name or "=(load)")
  end,
}
for _, name in native.ipairs {
  "assert", "error", "gcinfo", "getmetatable", "ipairs", "next", "pairs", "rawequal", "rawget",
  "select", "tonumber", "tostring", "type", "unpack",
} do
  builtins[name] = native[name]
end
for _, name in native.ipairs { "collectgarbage", "loadstring", "rawset", "setmetatable" } do
  builtins[name] = host[name]
end

local libraries = {
  bit = host.bit, cjson = host.cjson, cmsgpack = host.cmsgpack, struct = host.struct,
  coroutine = native.coroutine, math = native.math, string = native.string, table = native.table,
  os = { clock = host.clock },
}
libraries.coroutine.resume = function(...) return settled(resume(...)) end
libraries.math.random, libraries.math.randomseed = host.random, host.randomseed
libraries.string.dump = nil
for name, replacement in native.pairs(host.string) do
  libraries.string[name] = replacement
end
libraries.cjson.new = function()
  local copy = {}
  for name, value in native.pairs(libraries.cjson) do copy[name] = value end
  return copy
end

-- The metatable of all strings would let a script change them for the next.
native.getmetatable("").__metatable = false

local function shown(behind)
  return { __index = behind, __newindex = host.refuse, __metatable = false, __protected = true }
end

local fronts = {}
for name, library in native.pairs(libraries) do
  fronts[name] = shown(library)
end

-- What isn't there yet among the globals of a run.
local found = {
  __index = function(globals, name)
    local value = builtins[name]
    if value == nil then
      local front = fronts[name]
      if front == nil then return host.missing(name) end
      value = setmetatable({}, front)
    end
    globals[name] = value
    return value
  end,
}
local redis = { __index = host.redis }

local function environment_of(keys, arguments, call, protected_call)
  local environment = {}
  local globals = {
    KEYS = keys,
    ARGV = arguments,
    _G = environment,
    redis = setmetatable({}, shown(setmetatable({ call = call, pcall = protected_call }, redis))),
  }
  return setmetatable(environment, shown(setmetatable(globals, found)))
end

local function run(body, note)
  return xpcall(function() return (body()) end, note)
end

return environment_of, run
