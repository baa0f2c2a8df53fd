package oauthapi

import (
	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/httpapi"
)

// backchannelAnswer is CIBA Core §7.3.
type backchannelAnswer struct {
	AuthReqID string `json:"auth_req_id"`
	ExpiresIn int64  `json:"expires_in"`
	Interval  int64  `json:"interval"`
}

// backchannel answers POST /oauth2/bc-authorize (CIBA Core §7).
func (h *waiting) backchannel(c *fasthttp.RequestCtx, v *state.View) error {
	form, err := httpapi.Form(c)
	if err != nil {
		return err
	}
	b, err := h.pipeline.StartBackchannel(httpapi.Context(c), v, &grants.Asking{Credentials: credentials(c, &form), Form: &form, Address: httpapi.Remote(c)})
	if err != nil {
		return err
	}
	return httpapi.JSON(c, fasthttp.StatusOK, &backchannelAnswer{b.AuthReqID, b.ExpiresIn, b.Interval})
}
