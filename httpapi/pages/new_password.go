package pages

import (
	"errors"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/command"
	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/identity"
	"github.com/keyraft/keyraft/internal/oauth"
)

// newPasswordPage asks for a new password: of who must change theirs before they go on, and
// of who has opened a link for it. Wrong and Why are keys of the catalogue.
type newPasswordPage struct {
	Action, Name, Value string // Name and Value are those of the hidden field
	Why, Client, User   string
	Rules, Wrong        string
	Cancel              bool
}

// rules are what a new password must be, as people read it.
func (x *visit) rules() string {
	p := x.p.Users.Policy(x.view, x.tenant)
	return x.fill("password.rules", "min", strconv.Itoa(p.MinLength), "max", strconv.Itoa(p.MaxLength))
}

// fill is a text of the catalogue with its {names} filled in.
func (x *visit) fill(key string, pairs ...string) string {
	for i := 0; i < len(pairs); i += 2 {
		pairs[i] = "{" + pairs[i] + "}"
	}
	return strings.NewReplacer(pairs...).Replace(x.word(key))
}

// broken is the text of the rule that a new password breaks; "" for an error of another kind.
func broken(err error) string {
	var field *identity.FieldError
	if !errors.As(err, &field) {
		return ""
	}
	if text, ok := map[identity.Rule]string{
		identity.RuleShort: "password.short", identity.RuleLong: "password.long", identity.RuleName: "password.name",
		identity.RuleCommon: "password.common", identity.RuleSame: "password.same",
	}[field.Rule]; ok {
		return text
	}
	return "password.typed"
}

// askNewPassword shows the page of a user who has shown a password that they must change.
func (x *visit) askNewPassword(r *state.AuthorizationRequest, user *state.User, wrong string) error {
	flow, err := x.p.Engine.SealFlow(x.view, r, x.browser())
	if err != nil {
		return err
	}
	return x.page(fasthttp.StatusOK, "new_password", origin(r.GetRedirectUri()), &newPasswordPage{
		Action: x.below(newPasswordPath), Name: "flow", Value: flow, Why: "new_password.must", Client: x.asker(r), User: user.GetUsername(),
		Rules: x.rules(), Wrong: wrong, Cancel: r.GetPage() == "" && r.GetClientId() != "",
	})
}

// newPassword answers POST /login/password: the password in place of one that must be
// changed. One write sets it, ends that it must be changed, and ends every login of before;
// then the flow goes on.
func (p *pages) newPassword(x *visit) error {
	r, err := x.flow()
	if err != nil {
		return err
	}
	if x.form.Get("cancel") != "" {
		return refuse(r, oauth.AccessDenied.With("the user did not set a new password"))
	}
	user, err := p.Engine.First(x.view, r)
	if err != nil {
		return err
	}
	if user == nil {
		return x.resume(r)
	}
	amr := r.GetAmr()
	needed, err := x.secondNeeded(r, user, amr)
	if err != nil {
		return err
	}
	if needed || !identity.MustChange(user, amr) { // no step is skipped by its form
		return x.proved(r, user, amr)
	}
	next := x.form.Get("new")
	if next != x.form.Get("again") {
		return x.askNewPassword(r, user, "password.differ")
	}
	changed, err := p.Users.ChangePassword(x.ctx, x.view, user, next)
	if text := broken(err); text != "" {
		return x.askNewPassword(r, user, text)
	}
	if errors.Is(err, command.Stale) {
		r.Amr = nil // what was proved is of a user who is another one now
		return x.later(r)
	}
	if err != nil {
		return err
	}
	if x.view, err = p.View(x.ctx, state.Linearizable); err != nil {
		return err
	}
	return x.proved(r, changed, amr)
}
