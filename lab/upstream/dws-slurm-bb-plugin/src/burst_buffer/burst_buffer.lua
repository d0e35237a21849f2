-- A fake dws-slurm-bb-plugin, written for the lab: it gives every job with #DW lines a Workflow bbJOBID and takes
-- it from state to state with kubectl, as slurmctld calls the hooks at the end of this file.

local NAME = "burst_buffer.lua"
local DIRECTIVE = "DW" -- burst_buffer.conf says the same
local KUBECONFIG = "/etc/slurm/slurm-dws.kubeconfig"
local CACHE = "/tmp/burst_buffer_kubectl_cache"
local TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"
local WORKFLOWS = "workflows.dataworkflowservices.github.io"

local MANIFEST = [[
apiVersion: dataworkflowservices.github.io/v1alpha2
kind: Workflow
metadata:
  name: %s
  labels:
    origin: %s
spec:
  desiredState: "Proposal"
  dwDirectives: [%s]
  wlmID: "slurm"
  jobID: "%s"
  userID: %s
  groupID: %s
]]

-- Running programs ------------------------------------------------------------------------------------------------------

-- Returns whether the command exited with 0, and what it printed. Lua 5.1 does not tell: there every command fails.
local function run(command)
	local pipe = assert(io.popen(command))
	local output = pipe:read("*a")
	local _, _, code = pipe:close()
	return code == 0, output
end

local function is_folder(path)
	return path ~= nil and path ~= "" and run("test -d " .. path)
end

-- kubectl keeps its cache below HOME, which slurmctld may not have. Returns what to put before the command, or nil and why.
local function home()
	if is_folder(os.getenv("HOME")) then
		return ""
	end
	if not is_folder(CACHE) then
		local made, output = run("mkdir " .. CACHE .. " 2>&1")
		if not made then
			return nil, "no folder for kubectl's cache: " .. output
		end
	end
	return "HOME=" .. CACHE .. " "
end

-- Inside a pod the service account's token goes along.
local function token()
	local file = io.open(TOKEN)
	if not file then
		return ""
	end
	local content = file:read("*a")
	file:close()
	return ' --token="' .. content .. '"'
end

local function kubectl(words)
	local before, reason = home()
	if not before then
		return false, reason
	end
	return run(before .. "kubectl --kubeconfig " .. KUBECONFIG .. token() .. " " .. words .. " 2>&1")
end

-- Workflows ------------------------------------------------------------------------------------------------------------

local function workflow_of(job_id)
	return "bb" .. job_id
end

local function get(workflow, path)
	return kubectl("get " .. WORKFLOWS .. " " .. workflow .. " -o jsonpath='" .. path .. "'")
end

-- Returns a table {desired, current, status}; or nil and why. A new Workflow has neither a current state nor a status.
local function state_of(workflow)
	local done, output = get(workflow, "{.spec.desiredState}/{.status.state}/{.status.status}")
	if not done then
		return nil, output
	end
	local desired, current, status = output:match("^(%a+)/(%a*)/(%a*)$")
	if not desired then
		return nil, "this is no state of a Workflow: " .. output
	end
	return { desired = desired, current = current, status = status }
end

-- Returns the drivers' errors, one a line, of one state or (nil) of all; or nil and why.
local function errors_of(workflow, state)
	local path = [[{range .status.drivers[?(@.status=="Error")]}{.watchState}{"/"}{.driverID}{": "}{.error}{"\n"}{end}]]
	local done, output = get(workflow, path)
	if not done then
		return nil, output
	end
	local found = {}
	for where, what in output:gmatch("(%a+)/([^\n]*)") do
		if state == nil or state == where then
			table.insert(found, what)
		end
	end
	return table.concat(found, "\n")
end

-- Looks once a second, for as long as it takes. Returns true; or false and why.
local function await(workflow)
	while true do
		local state, reason = state_of(workflow)
		if not state then
			return false, reason
		end
		if state.desired == state.current and state.status == "Completed" then
			return true
		end
		if state.status == "Error" then
			local errors, problem = errors_of(workflow, state.desired)
			return false, errors and "DWS driver error(s):\n" .. errors or problem
		end
		os.execute("sleep 1")
	end
end

local function advance(workflow, state, hurry)
	local spec = '"desiredState":"' .. state .. '"' .. (hurry and ',"hurry":true' or "")
	local done, output = kubectl("patch " .. WORKFLOWS .. " " .. workflow .. " --type=merge -p '{\"spec\":{" .. spec .. "}}'")
	if not done then
		return false, "set_desired_state: " .. output
	end
	local reached, reason = await(workflow)
	return reached, not reached and "wait_for_status_complete: " .. reason or nil
end

-- Returns the #DW lines that say something; a bare #DW asks for a Workflow without directives. As in the true one nothing is
-- escaped: a line with a double quote in it makes no YAML, and the job is refused.
local function directives(script)
	local found = {}
	for line in script:gmatch("[^\n]+") do
		if line:match("^#" .. DIRECTIVE .. " .") then
			table.insert(found, '"' .. line .. '"')
		end
	end
	return table.concat(found, ", ")
end

local function create(workflow, script, job_id, uid, gid)
	local manifest = MANIFEST:format(workflow, NAME, directives(script), job_id, uid, gid)
	slurm.log_info("%s", manifest)
	local path = os.tmpname()
	local file = assert(io.open(path, "w"))
	file:write(manifest)
	file:close()
	local done, output = kubectl("apply -f " .. path)
	os.remove(path)
	return done, output
end

-- Hooks ----------------------------------------------------------------------------------------------------------------

local function called(hook, job_id, uid, gid, more)
	slurm.log_info("%s: %s(). job id:%s, uid:%s, gid:%s%s", NAME, hook, job_id, uid, gid, more or "")
end

local function failed(hook, workflow, reason)
	slurm.log_error("%s: %s(), workflow=%s: %s", NAME, hook, workflow, reason)
	return slurm.ERROR, reason
end

-- What follows the state is said to Slurm when it is reached.
local function stage(hook, job_id, state, ...)
	local workflow = workflow_of(job_id)
	local done, reason = advance(workflow, state)
	if not done then
		return failed(hook, workflow, reason)
	end
	return slurm.SUCCESS, ...
end

-- slurmctld waits for this one while a job is submitted: it makes the Workflow and does not wait for its Proposal.
function slurm_bb_job_process(job_script, uid, gid, job_info)
	local job_id = job_info["job_id"]
	called("slurm_bb_job_process", job_id, uid, gid, ", job script:" .. job_script)
	local file = assert(io.open(job_script))
	local script = file:read("*a")
	file:close()
	local done, output = create(workflow_of(job_id), script, job_id, uid, gid)
	if not done then
		return failed("slurm_bb_job_process", workflow_of(job_id), "the Workflow was not created: " .. output)
	end
	return slurm.SUCCESS, script
end

-- There are no pools.
function slurm_bb_pools()
	return slurm.SUCCESS
end

function slurm_bb_setup(job_id, uid, gid, pool, bb_size, job_script, job_info)
	called("slurm_bb_setup", job_id, uid, gid)
	local workflow = workflow_of(job_id)
	local done, reason = await(workflow)
	if not done then
		return failed("slurm_bb_setup", workflow, "Proposal is not completed: " .. reason)
	end
	return stage("slurm_bb_setup", job_id, "Setup")
end

function slurm_bb_data_in(job_id, job_script, uid, gid, job_info)
	called("slurm_bb_data_in", job_id, uid, gid)
	return stage("slurm_bb_data_in", job_id, "DataIn")
end

function slurm_bb_real_size(job_id, uid, gid, job_info)
	return slurm.SUCCESS
end

function slurm_bb_paths(job_id, job_script, path_file, uid, gid, job_info)
	return slurm.SUCCESS
end

function slurm_bb_pre_run(job_id, job_script, uid, gid, job_info)
	called("slurm_bb_pre_run", job_id, uid, gid)
	return stage("slurm_bb_pre_run", job_id, "PreRun", "Success")
end

function slurm_bb_post_run(job_id, job_script, uid, gid, job_info)
	called("slurm_bb_post_run", job_id, uid, gid)
	return stage("slurm_bb_post_run", job_id, "PostRun", "Success")
end

function slurm_bb_data_out(job_id, job_script, uid, gid, job_info)
	called("slurm_bb_data_out", job_id, uid, gid)
	return stage("slurm_bb_data_out", job_id, "DataOut", "Success")
end

-- Goes on after a failure: a Workflow that could not be torn down is deleted all the same.
function slurm_bb_job_teardown(job_id, job_script, hurry, uid, gid)
	called("slurm_bb_job_teardown", job_id, uid, gid, ", hurry:" .. tostring(hurry))
	local workflow = workflow_of(job_id)
	local result, said = slurm.SUCCESS, "Success"
	local function note(done, what, reason)
		if not done then
			result, said = failed("slurm_bb_job_teardown", workflow .. what, reason)
		end
	end
	local errors, reason = errors_of(workflow)
	if not errors and reason:find('"' .. workflow .. '" not found', 1, true) then
		return slurm.SUCCESS -- somebody else took it away
	end
	note(errors, "", "unable to check driver errors: " .. (reason or ""))
	local done, why = advance(workflow, "Teardown", hurry == "true")
	note(done, "", why)
	done, why = kubectl("delete " .. WORKFLOWS .. " " .. workflow)
	note(done, ", delete", why)
	if errors and errors ~= "" then
		-- Slurm would run the job again. This ends the present call, and Slurm calls once more.
		slurm.log_info("%s: slurm_bb_job_teardown(), workflow=%s: scancel --hurry %s, since %s", NAME, workflow, job_id, errors)
		run("scancel --hurry " .. job_id .. " 2>&1")
	end
	return result, said
end

-- scontrol show bbstat workflow JOBID
function slurm_bb_get_status(uid, gid, ...)
	local kind, job_id = ...
	local reason = "it is asked for as: workflow JOBID"
	if select("#", ...) == 2 and kind == "workflow" and job_id:match("^%d+$") then
		local state, problem = state_of(workflow_of(job_id))
		if state then
			local line = "desiredState=%s currentState=%s status=%s"
			return slurm.SUCCESS, line:format(state.desired, state.current, state.status)
		end
		reason = problem
	end
	slurm.log_error("%s: slurm_bb_get_status(%s): %s", NAME, table.concat({ ... }, ", "), reason)
	return slurm.ERROR, reason
end
