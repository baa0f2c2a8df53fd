package wire

import "strconv"

// Keys answers GET /gateway/v1/jwks: every issuer whose tokens the gateway may
// meet, with its public keys. A gateway also learns the cluster's id from it.
type Keys struct {
	Cluster     string
	Epoch, Head uint64
	Issuers     []Issuer
}

// Issuer is one issuer. KeyManager is the name of its key manager, empty for the
// built-in one. JWKS is a JWK Set (RFC 7517 §5) with public keys only; the same
// keys sign for FormerIssuers, names that the issuer had before.
type Issuer struct {
	Tenant        string
	KeyManager    string
	Issuer        string
	FormerIssuers []string
	JWKS          []byte
}

const maxFormer = 64 // former names of one issuer

// AppendJSON appends the document. JWKS must be JSON.
func (k *Keys) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"epoch":`...)
	dst = strconv.AppendUint(dst, k.Epoch, 10)
	dst = append(dst, `,"head":`...)
	dst = strconv.AppendUint(dst, k.Head, 10)
	dst = appendMember(dst, "cluster", k.Cluster)
	dst = append(dst, `,"issuers":[`...)
	for i, s := range k.Issuers {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"tenant":`...)
		dst = appendString(dst, s.Tenant)
		if s.KeyManager != "" {
			dst = appendMember(dst, "key_manager", s.KeyManager)
		}
		dst = appendMember(dst, "issuer", s.Issuer)
		for j, name := range s.FormerIssuers {
			dst = append(dst, [...]string{`,"former_issuers":[`, `,`}[min(j, 1)]...)
			dst = appendString(dst, name)
		}
		if len(s.FormerIssuers) > 0 {
			dst = append(dst, ']')
		}
		dst = append(dst, `,"jwks":`...)
		dst = append(dst, s.JWKS...)
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

// ParseKeys reads a whole document; cluster, tenant, issuer and jwks are
// required, an issuer may come once. The key sets themselves are not looked at.
func ParseKeys(data []byte) (*Keys, error) {
	if len(data) > MaxKeysBytes {
		return nil, invalid("%d bytes, at most %d are allowed", len(data), MaxKeysBytes)
	}
	r, err := newReader(data)
	if err != nil {
		return nil, err
	}
	k, need := &Keys{}, required{"cluster", "epoch", "head", "issuers"}
	known := make(map[string]struct{})
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "epoch":
			return r.uint(&k.Epoch)
		case "head":
			return r.uint(&k.Head)
		case "cluster":
			return r.string(&k.Cluster, MaxName)
		case "issuers":
			return r.array(MaxIssuers, func() error {
				s, err := r.issuer()
				if err != nil {
					return err
				}
				if _, twice := known[s.Issuer]; twice {
					return invalid("an issuer comes twice")
				}
				known[s.Issuer] = struct{}{}
				k.Issuers = append(k.Issuers, s)
				return nil
			})
		}
		return r.skip()
	})
	if err == nil {
		err = r.end()
	}
	if err == nil {
		err = need.missing()
	}
	if err == nil && k.Cluster == "" {
		err = invalid("cluster is empty")
	}
	if err != nil {
		return nil, err
	}
	return k, nil
}

func (r *reader) issuer() (s Issuer, err error) {
	need := required{"tenant", "issuer", "jwks"}
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "tenant":
			return r.string(&s.Tenant, MaxName)
		case "key_manager":
			return r.string(&s.KeyManager, MaxName)
		case "issuer":
			return r.string(&s.Issuer, MaxText)
		case "former_issuers":
			return r.array(maxFormer, func() error {
				var name string
				err := r.string(&name, MaxText)
				s.FormerIssuers = append(s.FormerIssuers, name)
				return err
			})
		case "jwks":
			return r.raw(&s.JWKS, MaxData)
		}
		return r.skip()
	})
	if err == nil {
		err = need.missing()
	}
	if err == nil && (s.Tenant == "" || s.Issuer == "") {
		err = invalid("tenant or issuer is empty")
	}
	return s, err
}
