package adminapi

import (
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/httpapi"
	"github.com/keyraft/keyraft/tokens"
)

func (a *api) tenantEndpoints() []endpoint {
	return []endpoint{
		{method: "GET", path: "/admin/v1/tenants", offersStale: true, query: []string{"limit", "cursor"}, serve: a.listTenants},
		{method: "GET", path: "/admin/v1/tenants/{id}", own: true, offersStale: true, serve: a.getTenant},
		{method: "PATCH", path: "/admin/v1/tenants/{id}", own: true, keyed: true, serve: a.patchTenant},
	}
}

// tenantLine is one tenant with its settings.
type tenantLine struct {
	ID          string `json:"id"`
	DisplayName string `json:"display_name"`
	Enabled     bool   `json:"enabled"`
	Issuer      string `json:"issuer"`
	CreatedAt   int64  `json:"created_at"`
	settingsLine
}

func tenantOf(v *state.View, t *state.Tenant) tenantLine {
	cluster, _ := v.Cluster()
	return tenantLine{t.GetId(), t.GetDisplayName(), !t.GetDisabled(), tokens.IssuerOf(cluster, t.GetId()), seconds(t.GetCreatedAt()), settingsOf(t.GetSettings())}
}

func (a *api) listTenants(r *request) error {
	var lines []tenantLine
	for _, t := range r.view.Tenants() {
		lines = append(lines, tenantOf(r.view, t))
	}
	p, err := pageOf(a, r, "tenants", lines, func(l *tenantLine) string { return l.ID })
	if err != nil {
		return err
	}
	return r.json(fasthttp.StatusOK, p)
}

func (a *api) getTenant(r *request) error {
	t, ok := r.view.Tenant(httpapi.Param(r.RequestCtx, "id"))
	if !ok {
		return notFound("there is no such tenant")
	}
	return r.tenantAnswer(t)
}
