package oauthapi_test

import (
	"cmp"
	"context"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/keyraft/keyraft/httpapi/oauthapi"
	"github.com/keyraft/keyraft/internal/testnode"
)

// TestTOK11Timing measures what an attacker sees: refusals of an unknown client and of
// secrets that are wrong early or late must take the same time. It takes some seconds
// and wants a machine that is not busy, so it runs with KEYRAFT_TIMING=1 only; that the
// work is the same is asserted always, by TestCostIsTheSame of package clients.
//
// Samples of the classes are taken in random order, so that what drifts falls on all. Two
// classes are compared by the chance that a sample of one is slower than a sample of
// the other (Mann-Whitney): 0.5 when nothing tells them apart. Its standard error is
// 0.004 with 10,000 samples each; the limit is six of those. The fourth class does the
// same as the third and shows what the method itself makes up.
func TestTOK11Timing(t *testing.T) {
	if os.Getenv("KEYRAFT_TIMING") != "1" {
		// A measurement, not a peer that is missing, so KEYRAFT_REQUIRE has no say: on a
		// busy machine it would tell of the machine. The equal work is tested always.
		t.Skip("set KEYRAFT_TIMING=1 on a quiet machine to measure")
	}
	const samples, limit = 10_000, 0.025
	n := start(t)
	secret := n.client(t, orders)
	flip := func(at int) string {
		b := []byte(secret)
		b[at] = 'A' + (b[at]-'A'+1)%26
		return string(b)
	}
	last := len(secret) - 1
	classes := []struct {
		name, authorization string
		took                []time.Duration
	}{
		{name: "unknown client", authorization: basicAuth("ordert", secret)},
		{name: "wrong at the first byte", authorization: basicAuth("orders", flip(0))},
		{name: "wrong at the last byte", authorization: basicAuth("orders", flip(last))},
		{name: "wrong at the last byte, again", authorization: basicAuth("orders", flip(last))},
	}
	var order []int
	for i := range classes {
		order = append(order, slices.Repeat([]int{i}, samples+500)...)
	}
	rand.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	for k, i := range order {
		c := &classes[i]
		began := time.Now()
		got, err := testnode.Send(context.Background(), n.http, "POST", "http://sts.example"+oauthapi.TokenPath, tokenForm,
			"Content-Type", "application/x-www-form-urlencoded", "Authorization", c.authorization)
		took := time.Since(began)
		if err != nil || got.Status != 401 {
			t.Fatalf("%s: %d, %v", c.name, got.Status, err)
		}
		if k >= 2000 { // the first ones warm up
			c.took = append(c.took, took)
		}
	}
	for i := range classes {
		slices.Sort(classes[i].took)
		d := classes[i].took
		t.Logf("%-30s %d samples: median %v, 90%% below %v", classes[i].name, len(d), d[len(d)/2], d[len(d)*9/10])
	}
	for i := range classes {
		for j := range i {
			chance := slower(classes[i].took, classes[j].took)
			t.Logf("%s is slower than %s with a chance of %.4f", classes[i].name, classes[j].name, chance)
			if chance < 0.5-limit || chance > 0.5+limit {
				t.Errorf("%s and %s can be told apart: %.4f", classes[i].name, classes[j].name, chance)
			}
		}
	}
}

// slower is the chance that a sample of a is greater than one of b, half of it for equal
// ones. Both are sorted.
func slower(a, b []time.Duration) float64 {
	sum := 0.0
	for _, x := range a {
		below, _ := slices.BinarySearch(b, x)
		upTo, _ := slices.BinarySearchFunc(b, x, func(e, target time.Duration) int {
			if c := cmp.Compare(e, target); c != 0 {
				return c
			}
			return -1
		})
		sum += float64(below) + float64(upTo-below)/2
	}
	return sum / float64(len(a)) / float64(len(b))
}

func TestSlower(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		a, b []time.Duration
		want float64
	}{
		{[]time.Duration{1, 2}, []time.Duration{1, 2}, 0.5},
		{[]time.Duration{3, 4}, []time.Duration{1, 2}, 1},
		{[]time.Duration{1, 2}, []time.Duration{3, 4}, 0},
		{[]time.Duration{2, 2, 2}, []time.Duration{1, 2, 2, 3}, 0.5},
	} {
		if got := slower(tt.a, tt.b); got != tt.want {
			t.Errorf("%v against %v: %v, want %v", tt.a, tt.b, got, tt.want)
		}
	}
}
