//go:build !race

package oauthapi_test

const raceEnabled = false
