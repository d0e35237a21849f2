-- Loads the plugin that comes on standard input the way slurmctld does, and looks for the functions named as arguments.
local function nothing() end
slurm = { SUCCESS = 0, ERROR = -1, FAILURE = -1, SLURM_BB_BUSY = "BUSY" }
for _, name in ipairs({ "error", "log_info", "log_debug", "log_debug2", "log_debug3", "log_debug4", "log_error", "log_user" }) do
	slurm[name] = nothing
end

local function fail(text)
	io.stderr:write("burst_buffer.lua: ", tostring(text), "\n")
	os.exit(1)
end

local chunk, reason = load(io.read("*a"), "=burst_buffer.lua")
if not chunk then
	fail(reason)
end
local loaded, result = pcall(chunk)
if not loaded then
	fail(result)
end
if (tonumber(result) or 0) ~= 0 then
	fail("returns " .. tostring(result) .. " when it is loaded")
end
for index = 1, #arg do
	if type(_G[arg[index]]) ~= "function" then
		fail("has no function " .. arg[index])
	end
end
