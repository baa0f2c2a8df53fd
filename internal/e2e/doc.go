// Package e2e tests the whole program: nodes and gateways as processes on a real
// disk, asked over their real ports, killed, paused, cut off and started again.
// Tests are named by the rows of the fault and attack lists that they inject.
//
// The binary is built once a run; KEYRAFT_BIN names one that is built already,
// and KEYRAFT_E2E_RACE=1 builds it with the race detector. KEYRAFT_E2E_KEEP names
// a folder that data and logs of a run are kept in. A peer program that is
// missing (nginx, promtool) skips its test, unless KEYRAFT_REQUIRE=all.
//
// Package proc beside it starts the processes; the demo uses it too.
package e2e
