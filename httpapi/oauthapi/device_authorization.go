package oauthapi

import (
	"net/url"

	"github.com/valyala/fasthttp"

	"github.com/keyraft/keyraft/fsm/state"
	"github.com/keyraft/keyraft/grants"
	"github.com/keyraft/keyraft/grants/pending"
	"github.com/keyraft/keyraft/httpapi"
)

// Paths of the endpoints at which a client begins what its user decides elsewhere.
const (
	DeviceAuthorizationPath = "/oauth2/device_authorization"
	BackchannelPath         = "/oauth2/bc-authorize"
)

// waitingMetadata are the members of discovery about such requests: RFC 8628 §4, CIBA
// Core §4.
type waitingMetadata struct {
	DeviceAuthorization string   `json:"device_authorization_endpoint"`
	Backchannel         string   `json:"backchannel_authentication_endpoint"`
	BackchannelModes    []string `json:"backchannel_token_delivery_modes_supported"`
	BackchannelUserCode bool     `json:"backchannel_user_code_parameter_supported"`
}

func newWaitingMetadata(issuer string) waitingMetadata {
	return waitingMetadata{
		DeviceAuthorization: issuer + DeviceAuthorizationPath, Backchannel: issuer + BackchannelPath, BackchannelModes: []string{"poll"},
	}
}

// waiting answers what begins such a request.
type waiting struct{ pipeline *grants.Pipeline }

func (h *waiting) routes() []httpapi.Route {
	return []httpapi.Route{
		// Linearizable: the client is looked at as it is, for the row is to be its own.
		{Method: "POST", Path: DeviceAuthorizationPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: h.device},
		{Method: "POST", Path: wso2DevicePath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: h.device},
		{Method: "POST", Path: BackchannelPath, Tenanted: true, Class: httpapi.OAuth, Read: state.Linearizable, Serve: h.backchannel},
	}
}

// deviceAnswer is RFC 8628 §3.2.
type deviceAnswer struct {
	DeviceCode      string `json:"device_code"`
	UserCode        string `json:"user_code"`
	Verification    string `json:"verification_uri"`
	VerificationAll string `json:"verification_uri_complete"`
	ExpiresIn       int64  `json:"expires_in"`
	Interval        int64  `json:"interval"`
}

// device answers POST /oauth2/device_authorization.
func (h *waiting) device(c *fasthttp.RequestCtx, v *state.View) error {
	form, err := httpapi.Form(c)
	if err != nil {
		return err
	}
	d, err := h.pipeline.StartDevice(httpapi.Context(c), v, &grants.Asking{Credentials: credentials(c, &form), Form: &form, Address: httpapi.Remote(c)})
	if err != nil {
		return err
	}
	page := d.Issuer + pending.DevicePath
	return httpapi.JSON(c, fasthttp.StatusOK, &deviceAnswer{
		DeviceCode: d.DeviceCode, UserCode: d.UserCode, Verification: page, VerificationAll: page + "?user_code=" + url.QueryEscape(d.UserCode),
		ExpiresIn: d.ExpiresIn, Interval: d.Interval,
	})
}
