package authorize

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/keyraft/keyraft/clients"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
	"github.com/keyraft/keyraft/tokens"
)

// Bounds of what a request may carry and a client gets back, in bytes (AUT-09, AUT-27).
const (
	maxState = 2048
	maxNonce = 512
	maxHint  = 512
	maxList  = 16 // items of prompt, acr_values, ui_locales
)

// Response modes (OAuth 2.0 Multiple Response Types §2.1, Form Post Response Mode §2).
const (
	modeQuery    = "query"
	modeFragment = "fragment"
	modeFormPost = "form_post"
	signedSuffix = ".jwt" // JARM §2.3
)

// Modes are the response modes that are served.
func Modes() []string {
	return []string{modeQuery, modeFragment, modeFormPost, "jwt", modeQuery + signedSuffix, modeFragment + signedSuffix, modeFormPost + signedSuffix}
}

// known tells a whole name of a response mode; jwt alone is short for another.
func known(mode string) bool { return mode != "jwt" && slices.Contains(Modes(), mode) }

// ResponseTypes are the response types that a tenant serves: those that give tokens in the
// browser's address only where it allows the grant type implicit.
func ResponseTypes(tenant *state.Tenant) []string {
	var types []string
	if grants.Allows(tenant, oauth.GrantAuthorizationCode) {
		types = append(types, "code")
	}
	if grants.Allows(tenant, oauth.GrantImplicit) {
		types = append(types, "id_token", "id_token token")
		if len(types) == 3 {
			types = append(types, "code id_token", "code token", "code id_token token")
		}
	}
	return types
}

// gives tells a word of a response type.
func gives(r *state.AuthorizationRequest, word string) bool {
	return slices.Contains(strings.Fields(r.GetResponseType()), word)
}

// Prompts are the values of prompt that are served.
func Prompts() []string { return []string{"none", "login", "consent", "select_account"} }

// Parse holds a request against its client's registration, and gives its one form. The
// view that it was decided on is fresher than v where v did not know the client. The
// error is *Failure, or the view's own.
func (e *Engine) Parse(ctx context.Context, v *state.View, tenant string, form Form) (*state.AuthorizationRequest, error) {
	id := form.Get("client_id")
	if id == "" {
		return nil, &Failure{Err: oauth.InvalidRequest.With("client_id is missing")}
	}
	v, client, err := e.client(ctx, v, tenant, id)
	if err != nil {
		return nil, err
	}
	t, _ := v.Tenant(tenant)
	if client == nil || client.GetDisabled() || t == nil || t.GetDisabled() {
		return nil, &Failure{Err: oauth.InvalidRequest.With("there is no such client here, or it is disabled")}
	}
	if uri := form.Get("request_uri"); uri != "" {
		if form.Get("request") != "" {
			return nil, &Failure{Err: oauth.InvalidRequest.With("request and request_uri exclude each other (RFC 9101 §5)")}
		}
		if strings.HasPrefix(uri, requestURI) {
			return e.pushed(v, client, uri)
		}
	}
	if grants.RequiresPAR(t, client) {
		return nil, &Failure{Err: oauth.InvalidRequest.With("this client must push its request to the PAR endpoint first (RFC 9126)")}
	}
	return e.parse(ctx, v, t, client, form)
}

// Push is Parse for a request that its authenticated client pushes (RFC 9126 §2.1).
func (e *Engine) Push(ctx context.Context, v *state.View, client *state.Client, form Form) (*state.AuthorizationRequest, error) {
	t, _ := v.Tenant(client.GetTenant())
	if form.Get("request_uri") != "" {
		return nil, oauth.InvalidRequest.With("request_uri has no place in a pushed request (RFC 9126 §2.1)")
	}
	if id := form.Get("client_id"); id != "" && id != client.GetId() {
		return nil, oauth.InvalidRequest.With("client_id is not the client that pushes")
	}
	r, err := e.parse(ctx, v, t, client, form)
	var failure *Failure
	if errors.As(err, &failure) {
		return nil, failure.Err // there is no browser to send anywhere
	}
	return r, err
}

// begin is a request of a client that has asked nothing yet.
func (e *Engine) begin(v *state.View, tenant string, client *state.Client) *state.AuthorizationRequest {
	return &state.AuthorizationRequest{
		Tenant: tenant, ClientId: client.GetId(), ClientCreatedAt: client.GetCreatedAt(), Epoch: v.Epoch(),
		StartedAt: e.now(v), Id: tokens.NewGrantID(), ResponseMode: modeQuery, MaxAge: -1,
	}
}

func (e *Engine) parse(ctx context.Context, v *state.View, tenant *state.Tenant, client *state.Client, form Form) (*state.AuthorizationRequest, error) {
	form, err := e.object(ctx, v, tenant, client, form)
	if err != nil {
		return nil, err
	}
	r := e.begin(v, tenant.GetId(), client)
	if refusal := redirect(r, tenant, client, form); refusal != nil {
		return nil, &Failure{Err: refusal}
	}
	// From here on the client may be told.
	if s := form.Get("state"); len(s) <= maxState {
		r.State = s
	}
	for _, rule := range []func(*state.AuthorizationRequest, *state.Tenant, *state.Client, Form) *oauth.Error{
		response, proofKey, targets, interaction, texts, objects,
	} {
		if refusal := rule(r, tenant, client, form); refusal != nil {
			return nil, &Failure{Err: refusal, Request: r}
		}
	}
	r.ScopeGiven = form.Get("scope") != ""
	if err := narrow(v, tenant, client, nil, r, form.Get("scope")); err != nil {
		return nil, err
	}
	if hint := form.Get("id_token_hint"); hint != "" {
		said, ok, err := e.cfg.Keys.Hint(v, r.GetTenant(), hint)
		if err != nil {
			return nil, err
		}
		// A hint that can't be believed says nothing (AUT-14).
		if !ok || said.ClientID != client.GetId() {
			if slices.Contains(r.Prompt, "none") {
				return nil, &Failure{Err: oauth.LoginRequired.With("id_token_hint is no ID token that this client got here"), Request: r}
			}
			return r, nil
		}
		if r.HintSubject != "" && r.HintSubject != said.Subject {
			return nil, &Failure{Err: oauth.LoginRequired.With("claims and id_token_hint name two users"), Request: r}
		}
		r.HintSubject = said.Subject
	}
	return r, nil
}

// redirect finds where the answer goes (AUT-01 to AUT-05).
func redirect(r *state.AuthorizationRequest, tenant *state.Tenant, client *state.Client, form Form) *oauth.Error {
	asked := form.Get("redirect_uri")
	switch {
	case asked != "" && !clients.RedirectMatches(client.GetRedirectUris(), asked):
		return oauth.InvalidRequest.With("redirect_uri is not one that the client has registered, byte by byte")
	case asked != "":
		r.RedirectUri, r.RedirectUriGiven = asked, true
	case len(client.GetRedirectUris()) != 1 || grants.RequiresPAR(tenant, client) /* FAPI 2.0 §5.3.2.2 */ || slices.Contains(strings.Fields(form.Get("scope")), "openid"):
		return oauth.InvalidRequest.With("redirect_uri is missing")
	default:
		r.RedirectUri = client.GetRedirectUris()[0]
	}
	return nil
}

func response(r *state.AuthorizationRequest, tenant *state.Tenant, client *state.Client, form Form) *oauth.Error {
	if len(form.Get("state")) > maxState {
		return oauth.InvalidRequest.Withf("state is longer than %d bytes", maxState)
	}
	r.ResponseType = form.Get("response_type")
	front := gives(r, "token") || gives(r, "id_token")
	if front {
		r.ResponseMode = modeFragment
	}
	if refusal := mode(r, form.Get("response_mode"), front); refusal != nil {
		return refusal
	}
	if r.ResponseType == "" {
		return oauth.InvalidRequest.With("response_type is missing")
	}
	if !slices.Contains(ResponseTypes(tenant), r.ResponseType) {
		return oauth.UnsupportedResponseType.Withf("response_type must be one of: %s", strings.Join(ResponseTypes(tenant), ", "))
	}
	if registered := client.GetResponseTypes(); !slices.Contains(registered, r.ResponseType) && (len(registered) > 0 || r.ResponseType != "code") {
		return oauth.UnauthorizedClient.With("the client is not registered for this response_type")
	}
	for _, needed := range [...]struct {
		word  bool
		grant oauth.GrantType
	}{{gives(r, "code"), oauth.GrantAuthorizationCode}, {front, oauth.GrantImplicit}} {
		if refusal := refusalOf(grants.Gate(tenant, client, needed.grant)); needed.word && refusal != nil {
			return refusal
		}
	}
	if gives(r, "id_token") && (form.Get("nonce") == "" || !slices.Contains(strings.Fields(form.Get("scope")), "openid")) {
		return oauth.InvalidRequest.With("a response_type with id_token needs nonce and the scope openid (OpenID Connect Core §3.2.2.1)")
	}
	return nil
}

// mode finds how the client is answered. A refusal is sent in the mode that is the
// default then, so that it arrives.
func mode(r *state.AuthorizationRequest, asked string, front bool) *oauth.Error {
	usual := r.ResponseMode
	switch {
	case asked == "":
		return nil
	case asked == "jwt":
		r.ResponseMode = usual + signedSuffix
		return nil
	case !known(asked):
		return oauth.InvalidRequest.Withf("response_mode must be one of: %s", strings.Join(Modes(), ", "))
	case front && strings.HasPrefix(asked, modeQuery):
		return oauth.InvalidRequest.With("a response_type with a token is not answered in the query, which servers log")
	case strings.HasPrefix(asked, modeFormPost) && !strings.HasPrefix(r.RedirectUri, "https://") && !strings.HasPrefix(r.RedirectUri, "http://"):
		return oauth.InvalidRequest.With("response_mode=form_post needs a redirect URI of the web; an application's own scheme takes query or fragment")
	}
	r.ResponseMode = asked
	return nil
}

// proofKey is RFC 7636 §4.3 without plain, and dpop_jkt of RFC 9449 §10.
func proofKey(r *state.AuthorizationRequest, tenant *state.Tenant, client *state.Client, form Form) *oauth.Error {
	challenge, method := form.Get("code_challenge"), form.Get("code_challenge_method")
	switch {
	case challenge == "" && method != "":
		return oauth.InvalidRequest.With("code_challenge is missing")
	case challenge == "" && grants.RequiresPKCE(tenant, client):
		return oauth.InvalidRequest.With("this client must use PKCE: code_challenge with code_challenge_method=S256 (RFC 7636)")
	case challenge != "" && method != "S256":
		return oauth.InvalidRequest.With("code_challenge_method must be S256; plain is not served")
	case challenge != "" && !grants.IsDigest(challenge):
		return oauth.InvalidRequest.With("code_challenge must be the base64url of a SHA-256: 43 characters")
	}
	r.Challenge = challenge
	if r.Jkt = form.Get("dpop_jkt"); r.Jkt != "" && !grants.IsDigest(r.Jkt) {
		return oauth.InvalidRequest.With("dpop_jkt must be the base64url of a SHA-256: 43 characters")
	}
	return nil
}

func targets(r *state.AuthorizationRequest, _ *state.Tenant, client *state.Client, form Form) *oauth.Error {
	var err error
	r.Resources, err = grants.Targets(form, client.GetResources())
	return refusalOf(err)
}

// narrow sets the scope of a request to what its client may ask, and, once they are
// known, its user for.
func narrow(v *state.View, tenant *state.Tenant, client *state.Client, user *state.User, r *state.AuthorizationRequest, asked string) error {
	scope, err := grants.Narrow(v, tenant, client, user, asked)
	if refusal := refusalOf(err); refusal != nil {
		return &Failure{Err: refusal, Request: r}
	}
	r.Scope = scope
	return err
}

func refusalOf(err error) *oauth.Error {
	var refusal *oauth.Error
	errors.As(err, &refusal)
	return refusal
}

// interaction reads what the client wants of the user (OpenID Connect Core §3.1.2.1).
func interaction(r *state.AuthorizationRequest, _ *state.Tenant, client *state.Client, form Form) *oauth.Error {
	r.Prompt = strings.Fields(form.Get("prompt"))
	for _, p := range r.Prompt {
		if !slices.Contains(Prompts(), p) {
			return oauth.InvalidRequest.Withf("prompt may be %s", strings.Join(Prompts(), ", "))
		}
	}
	if slices.Contains(r.Prompt, "none") && len(r.Prompt) > 1 || len(r.Prompt) > maxList {
		return oauth.InvalidRequest.With("prompt=none stands alone")
	}
	if text := form.Get("max_age"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil || n < 0 {
			return oauth.InvalidRequest.With("max_age must be a number of seconds, 0 or more")
		}
		r.MaxAge = n
	} else if client.GetDefaultMaxAge() > 0 {
		r.MaxAge = client.GetDefaultMaxAge()
	}
	r.AcrValues = strings.Fields(form.Get("acr_values"))
	if len(r.AcrValues) == 0 {
		r.AcrValues = client.GetDefaultAcrValues()
	}
	if len(r.AcrValues) > maxList {
		return oauth.InvalidRequest.Withf("acr_values has more than %d items", maxList)
	}
	return nil
}

func texts(r *state.AuthorizationRequest, _ *state.Tenant, _ *state.Client, form Form) *oauth.Error {
	for _, m := range [...]struct {
		name string
		most int
		into *string
	}{
		{"nonce", maxNonce, &r.Nonce}, {"login_hint", maxHint, &r.LoginHint}, {"ui_locales", maxHint, &r.UiLocales},
	} {
		if *m.into = form.Get(m.name); len(*m.into) > m.most {
			*m.into = ""
			return oauth.InvalidRequest.Withf("%s is longer than %d bytes", m.name, m.most)
		}
	}
	return nil
}

// objects reads the parameters that are JSON.
func objects(r *state.AuthorizationRequest, tenant *state.Tenant, client *state.Client, form Form) *oauth.Error {
	details, err := grants.Details(tenant, client, form.Get("authorization_details"))
	if err != nil {
		return refusalOf(err)
	}
	r.Details = details
	request, err := identity.ParseClaimsRequest([]byte(form.Get("claims")))
	if err != nil {
		return oauth.InvalidRequest.With(err.Error())
	}
	if form.Get("claims") == "" {
		return nil
	}
	r.Claims = []byte(form.Get("claims"))
	// Who must be signed in, and how, is asked for by claims too (OpenID Connect Core
	// §5.5.1.1, §5.5.1 "sub").
	switch subjects := request.Texts("sub"); len(subjects) {
	case 0:
	case 1:
		r.HintSubject = subjects[0]
	default:
		return oauth.InvalidRequest.With("claims asks for two users by sub; ask for one")
	}
	for _, acr := range request.Texts("acr") {
		if !slices.Contains(r.AcrValues, acr) {
			r.AcrValues = append(slices.Clone(r.AcrValues), acr) // the client's defaults are not to be changed
		}
	}
	if len(r.AcrValues) > maxList {
		return oauth.InvalidRequest.Withf("acr_values and claims ask for more than %d classes", maxList)
	}
	return nil
}
