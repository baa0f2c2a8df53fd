// Package gateway is the Go SDK for whatever stands in front of an API: it keeps
// a copy of the cluster's live revocations and verification keys, and decides
// locally whether a token may pass.
//
//	g, err := gateway.New(gateway.Config{
//		Nodes:          []string{"https://sts-1:9443"}, // it tells the others
//		CredentialFile: "gw.cred",                      // POST /admin/v1/gateways makes one
//	})
//	if err != nil {
//		return err
//	}
//	go g.Run(ctx)
//	http.HandleFunc("/orders", func(w http.ResponseWriter, r *http.Request) {
//		scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
//		who, err := g.Validate(r.Context(), gateway.Request{Scheme: scheme, Token: token})
//		if err != nil {
//			http.Error(w, err.Error(), http.StatusUnauthorized)
//			return
//		}
//		fmt.Fprintln(w, "hello", who.Subject)
//	})
//
// Validate goes: issuer → key manager → enabled for this API → signature → exp,
// nbf, aud → revoked? → scopes → bound? A token seen before is answered from
// the decision cache, which holds verified claims and the publication at which
// they were last held against the revocations; when anything was published
// since, they are held against them again before the hit counts. So a hit is
// never older than the head, and nothing has to be evicted when a token is
// revoked.
//
// Run keeps the copy in sync: a snapshot, then deltas from (epoch, head) by
// long-poll, with a short poll every 700 ms beside it that proves the head fresh
// and the node alive. A node that is behind, silent or says what can't be is
// left for another one; the head never goes back. After a restore of the cluster
// (another epoch) old revocations are kept until they expire, and what the cluster
// forgot by it is taken back by a window: one revocation a tenant, of what was
// decided above a head or issued after a second. What gossip says only triggers a
// poll. Every 30 seconds, and when another node is followed, that node is asked for
// the others; they are tried like the configured ones, over the same scheme.
//
// A change of keys is in before the head moves past it. A signing key that left the
// key set, or that was revoked, is refused from then on whatever head its tokens
// name, decisions in the cache included.
//
// A bound token (a cnf claim) passes with its proof alone: a DPoP proof (RFC 9449) for
// the Method and URL of the Request, or the client certificate (RFC 8705). A proof needs
// no nonce; each is good once in this process, for a minute.
//
// Staleness is counted from the moment when the last answered poll was *sent*,
// by a clock that runs while the machine or the process is paused. Past
// Config.MaxStaleness, and before the first contact, Config.FailMode decides.
// Any error inside counts as a refusal.
//
// Units: instants are seconds since 1970 UTC unless they are time.Time; sizes are
// bytes.
//
// Errors: Validate returns a *Refusal, whose Reason is a word of a closed list.
// No error and no log line holds a token or a credential.
//
// A Gateway is safe for concurrent use. The package links neither Pebble nor
// raft nor fasthttp.
//
// Sources: RFC 6750, 7519, 7662, 8725, 9068, 9449.
package gateway
