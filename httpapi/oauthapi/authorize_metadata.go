package oauthapi

import (
	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants/authorize"
	"github.com/keyraft/keyraft/tokens"
)

// PagesMetadata says where a browser is sent to, as paths below a tenant's issuer, and
// the languages that it is spoken to in.
type PagesMetadata struct {
	AuthorizePath, LogoutPath string
	Locales                   []string
}

// authorizeMetadata are the members of discovery about authorization requests: RFC 8414
// §2, RFC 9126 §5, RFC 9207 §3, OpenID Connect Discovery §3, RP-Initiated Logout §2.1,
// Front-Channel Logout §3, Back-Channel Logout §2.1.
type authorizeMetadata struct {
	Authorize           string   `json:"authorization_endpoint"`
	PAR                 string   `json:"pushed_authorization_request_endpoint"`
	BackchannelLogout   bool     `json:"backchannel_logout_supported"`
	BackchannelSession  bool     `json:"backchannel_logout_session_supported"`
	FrontchannelLogout  bool     `json:"frontchannel_logout_supported"`
	FrontchannelSession bool     `json:"frontchannel_logout_session_supported"`
	RequirePAR          bool     `json:"require_pushed_authorization_requests"` // of every client; one may be registered for it
	RequireObjects      bool     `json:"require_signed_request_object"`         // as that (RFC 9101 §10.5)
	EndSession          string   `json:"end_session_endpoint"`
	ResponseTypes       []string `json:"response_types_supported"`
	ResponseModes       []string `json:"response_modes_supported"`
	Challenges          []string `json:"code_challenge_methods_supported"`
	IssuerAnswered      bool     `json:"authorization_response_iss_parameter_supported"`
	Prompts             []string `json:"prompt_values_supported"`
	Classes             []string `json:"acr_values_supported"`
	ClaimTypes          []string `json:"claim_types_supported"`
	Locales             []string `json:"ui_locales_supported"`
	RequestObjects      bool     `json:"request_parameter_supported"`
	RequestObjectAlgs   []string `json:"request_object_signing_alg_values_supported"`
	AnswerAlgs          []string `json:"authorization_signing_alg_values_supported"`
	DetailsTypes        []string `json:"authorization_details_types_supported,omitempty"`
}

func newAuthorizeMetadata(issuer string, tenant *state.Tenant, p PagesMetadata) authorizeMetadata {
	return authorizeMetadata{
		Authorize: issuer + p.AuthorizePath, PAR: issuer + PARPath, EndSession: issuer + p.LogoutPath,
		ResponseTypes: authorize.ResponseTypes(tenant), RequestObjects: true, RequestObjectAlgs: clients.AssertionAlgs(), AnswerAlgs: tokens.Algs(),
		RequirePAR: tenant.GetSettings().GetRequirePar(), RequireObjects: tenant.GetSettings().GetRequireRequestObject(),
		DetailsTypes:  tenant.GetSettings().GetDetailsTypes(),
		ResponseModes: authorize.Modes(), Challenges: []string{"S256"}, IssuerAnswered: true,
		Prompts: authorize.Prompts(), Classes: []string{authorize.ACRPassword, authorize.ACRFactors}, ClaimTypes: []string{"normal"}, BackchannelLogout: true, BackchannelSession: true, FrontchannelLogout: true, FrontchannelSession: true, Locales: p.Locales,
	}
}
