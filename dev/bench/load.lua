-- One request over and over; what was not answered with 200 is counted, and the end told in one line of JSON.
local threads = {}

function setup(thread)
   table.insert(threads, thread)
end

function init(_)
   refused = 0
   wrk.method = "POST"
   wrk.headers["Content-Type"] = "application/json"
   wrk.headers["Authorization"] = os.getenv("BENCH_AUTHORIZATION")
   wrk.body = io.open(os.getenv("BENCH_BODY"), "rb"):read("*a")
   ready = wrk.format()
end

function request()
   return ready
end

function response(status)
   if status ~= 200 then
      refused = refused + 1
   end
end

function done(summary, latency, _)
   local not_200 = 0
   for _, thread in ipairs(threads) do
      not_200 = not_200 + thread:get("refused")
   end
   local lost = summary.errors.connect + summary.errors.read + summary.errors.write
   io.write(string.format(
      '{"requests":%d,"microseconds":%d,"p50":%d,"p99":%d,"not_200":%d,"lost":%d,"timeouts":%d}\n',
      summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
      not_200, lost, summary.errors.timeout))
end
