package main

import (
	"fmt"
	"strings"
)

// meaning says in words what a figure is; empty where the name says it.
func meaning(name string) string {
	return map[string]string{
		"jwt_client_credentials_es256":            "ES256 token by client credentials, whole request",
		"jwt_client_credentials_es256_of_ceiling": "the same, beside a program without a cluster",
		"jwt_client_credentials_eddsa":            "EdDSA token, whole request",
		"jwt_client_credentials_rs256":            "RS256 token, whole request",
		"jwt_mint":                                "making a JWT, without its signature",
		"opaque_issue_1voter":                     "opaque tokens committed by one voter",
		"opaque_issue_3voters":                    "opaque tokens committed by three voters on one machine",
		"write_single_p50":                        "one write alone, median",
		"write_single_p50_3voters":                "one write alone, three voters on one machine",
		"write_single_p50_follower":               "the same, asked of a follower",
		"introspect_leader":                       "introspection at the leader of three, proved fresh",
		"introspect_leader_all_nodes":             "the same, with what the other nodes spend",
		"introspect_leader_rounds":                "proofs of freshness an introspection",
		"introspect_follower_all_nodes":           "the same, with what the other nodes spend",
		"introspect_follower_rounds":              "proofs of freshness an introspection, at a follower",
		"code_login":                              "a signed-in user's code and its tokens: two requests, one commit",
		"refresh_rotate":                          "a refresh token rotated: ES256 access and ID token, one commit",
		"revoke_cpu":                              "CPU time of a revocation",
		"delta_100_gateways_added":                "what a gateway more adds to a revocation",
		"failover_writes_worst":                   "the same, the worst of all rounds",
		"failover_writes_kept":                    "writes that were answered before and are there after",
		"failover_writes_served":                  "JWTs issued meanwhile",
		"handover_served":                         "JWTs issued meanwhile",
		"allocations_jwt_es256":                   "allocations of an ES256 request",
		"allocations_jwt_eddsa":                   "allocations of an EdDSA request",
		"gateway_validate_uncached_allocations":   "allocations of that",
		"gateway_validate_cached_allocations":     "allocations of that",
		"snapshot_apply_p99":                      "applying an entry while a snapshot is streamed, p99",
		"rss_es256_load":                          "memory under full ES256 load",
		"start_ready_1m_rows":                     "from start to ready, a million rows",
		"introspect_linearizable":                 "introspection at the leader, proved fresh",
		"introspect_follower":                     "introspection at a follower, proved fresh",
		"revoke":                                  "revocation of a token",
		"delta_100_gateways":                      "telling 100 gateways of a revocation",
		"gateway_validate_uncached":               "a gateway decides about a new token",
		"gateway_validate_cached":                 "a gateway decides about a token that it has seen",
		"revocation_bytes_each":                   "memory of a live revocation at a gateway",
		"propagation_p99":                         "from the revocation until every gateway refuses",
		"failover_writes":                         "from the leader's death until a write is taken again",
		"handover":                                "writes pause while leadership is handed over",
		"snapshot_rows":                           "streaming a snapshot",
		"restore_rows":                            "restoring a snapshot",
		"rss_idle":                                "memory of an idle node",
		"rss_1m_clients":                          "memory that a million clients add",
		"start_ready":                             "from start to ready, empty folder",
		"ceiling_es256":                           "ceiling program, ES256 token",
		"ceiling_eddsa":                           "ceiling program, EdDSA token",
		"ceiling_rs256":                           "ceiling program, RS256 token",
		"ceiling_opaque":                          "ceiling program, opaque token, kept in memory",
		"ceiling_introspect":                      "ceiling program, introspection without proof",
		"peer_oidc_provider_es256":                "oidc-provider (Node), ES256 token",
		"peer_oidc_provider_rs256":                "oidc-provider (Node), RS256 token",
		"peer_oidc_provider_opaque":               "oidc-provider (Node), opaque token in memory",
		"peer_oidc_provider_introspect":           "oidc-provider (Node), introspection",
		"peer_zitadel_es256":                      "zitadel/oidc example (Go), ES256 token",
		"peer_zitadel_opaque":                     "zitadel/oidc example (Go), opaque token in memory",
		"peer_zitadel_introspect":                 "zitadel/oidc example (Go), introspection",
		"peer_keycloak_es256":                     "Keycloak (Java), ES256 token",
		"peer_keycloak_rs256":                     "Keycloak (Java), RS256 token",
		"peer_keycloak_introspect":                "Keycloak (Java), introspection of a JWT",
	}[name]
}

// headlines are the figures of the README.
func headlines() []string {
	return []string{
		"jwt_client_credentials_es256", "jwt_client_credentials_eddsa", "opaque_issue_1voter", "opaque_issue_3voters", "introspect_linearizable",
		"gateway_validate_cached", "propagation_p99", "failover_writes", "rss_1m_clients",
		"peer_oidc_provider_es256", "peer_zitadel_es256", "peer_oidc_provider_opaque", "peer_zitadel_opaque", "peer_oidc_provider_introspect", "peer_oidc_provider_rs256",
	}
}

// goal is one of the floors in words.
type goal struct {
	id, says, why string
	prefixes      []string // of the figures that show it
}

// goals are F1 to F15. The words are those of the project's goals; the figures decide.
func goals() []goal {
	return []goal{
		{"F1", "An ES256 token by client credentials, end to end, takes at most the time of a bare answer and a signature ÷ 0.60; and the ceiling program's ÷ 0.78.", "Client, secret, claims and JSON cost little; the rest is for routing, limits, metrics, audit and the proof of freshness.", []string{"jwt_client_credentials_es256"}},
		{"F2", "Besides those of the signature, a JWT request makes at most 5 allocations.", "Garbage is CPU time later.", []string{"allocations_jwt"}},
		{"F3", "Making a JWT takes at most 4 % of its signature.", "It is written into a buffer by hand.", []string{"jwt_mint"}},
		{"F4", "One voter, 256 clients: at least 10 opaque tokens committed in the time of one sync, or 0.35 of what the ceiling program issues, whichever is less.", "A batch forms while the sync before it runs.", []string{"opaque_issue_1voter"}},
		{"F5", "Three voters on one machine and disk: at least 4, or 0.10.", "The same, with three syncs on one disk.", []string{"opaque_issue_3voters"}},
		{"F6", "One write alone takes at most 1.5 x a bare commit of the Raft library, at the median.", "Nobody waits for a batch to fill.", []string{"write_single"}},
		{"F7", "Introspection that is proved fresh takes at most a bare answer ÷ 0.45.", "Many requests share one proof by the leader.", []string{"introspect"}},
		{"F8", "With a million live revocations, a gateway decides about a new token within 1.25 x its bare verification, and about one it has seen within 7 hashes of it.", "Revocations are in its memory; nobody is asked.", []string{"gateway_validate"}},
		{"F9", "A live revocation takes at most 64 bytes at a gateway that holds a million.", "A table of fixed cells without pointers; exact, no filter.", []string{"revocation_bytes"}},
		{"F10", "99 of 100 revocations are refused at every gateway within 3 x the commit's own p99 and 50 ms.", "Gateways wait at the nodes; the commit wakes them.", []string{"propagation"}},
		{"F11", "When the leader dies, writes go on within 3 heartbeat timeouts at the median, 4 at worst; a planned hand-over takes at most 150 ms.", "JWTs are issued meanwhile, without a leader.", []string{"failover", "handover"}},
		{"F12", "A snapshot takes at most 3 x a bare iteration of the store; a restore at most 2 x a bare write of it.", "Rows are streamed as they lie.", []string{"snapshot", "restore"}},
		{"F13", "An idle node takes at most 80 MiB; a million clients add at most 400 MiB.", "Rows are held encoded.", []string{"rss_"}},
		{"F14", "A node is ready within a second from an empty folder.", "A lone voter waits for no election timeout.", []string{"start_"}},
		{"F15", "Requests a core: at least 4 x oidc-provider and 1.6 x zitadel's example for ES256; 5 x and 2 x for opaque tokens, with the commit; 9 x oidc-provider for introspection.", "What the floors above leave of the ceiling program's lead.", []string{"peer_"}},
	}
}

// goals is the table of them, with what this run says.
func (p page) goals() string {
	var b strings.Builder
	b.WriteString(head("", "floor", "why it can be held", "in this run"))
	for _, g := range goals() {
		held, not := 0, []string{}
		for _, r := range p.Bench.Results {
			for _, prefix := range g.prefixes {
				if r.Floor <= 0 || !strings.HasPrefix(r.Name, prefix) {
					continue
				}
				if r.OK {
					held++
				} else {
					not = append(not, fmt.Sprintf("`%s` %s of %s", r.Name, short(r.Ratio), short(r.Floor)))
				}
			}
		}
		says := "holds"
		switch {
		case len(not) > 0:
			says = "**does not hold**: " + strings.Join(not, ", ")
		case held == 0:
			says = "not measured"
		}
		b.WriteString(cells(g.id, g.says, g.why, says))
	}
	return b.String()
}
