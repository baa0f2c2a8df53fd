package wire

import "bytes"

// Members answers GET /gateway/v1/members: where else a gateway may poll.
type Members struct {
	Cluster string // empty when the answer is a bare list
	Items   []Member
}

// Member is one node. GossipAddr is its place in the gateways' pool, empty
// without one. Both are host:port; APIAddr may be a base URL.
type Member struct {
	ID         string
	APIAddr    string
	GossipAddr string
}

// AppendJSON appends the document.
func (m *Members) AppendJSON(dst []byte) []byte {
	dst = append(dst, `{"cluster":`...)
	dst = appendString(dst, m.Cluster)
	dst = append(dst, `,"items":[`...)
	for i, n := range m.Items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"id":`...)
		dst = appendString(dst, n.ID)
		dst = appendMember(dst, "api_addr", n.APIAddr)
		dst = appendMember(dst, "gossip_addr", n.GossipAddr)
		dst = append(dst, '}')
	}
	return append(dst, `]}`...)
}

// ParseMembers reads {"cluster", "items": […]} or the bare list. Addresses are
// looked at by whoever dials them; an item without id is refused.
func ParseMembers(data []byte) (*Members, error) {
	if len(data) > MaxMembersDoc {
		return nil, invalid("%d bytes, at most %d are allowed", len(data), MaxMembersDoc)
	}
	r, err := newReader(data)
	if err != nil {
		return nil, err
	}
	m := &Members{}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("[")) {
		err = r.members(m)
	} else {
		need := required{"items"}
		err = r.object(func(name string) error {
			need.met(name)
			switch name {
			case "cluster":
				return r.string(&m.Cluster, MaxName)
			case "items":
				return r.members(m)
			}
			return r.skip()
		})
		if err == nil {
			err = need.missing()
		}
	}
	if err == nil {
		err = r.end()
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (r *reader) members(m *Members) error {
	return r.array(MaxMembers, func() error {
		n, err := r.member()
		m.Items = append(m.Items, n)
		return err
	})
}

// member reads one node. The admin API calls the gateways' pool
// gateway_gossip_addr, since it names the nodes' own pool besides.
func (r *reader) member() (n Member, err error) {
	var pool string
	need := required{"id"}
	err = r.object(func(name string) error {
		need.met(name)
		switch name {
		case "id":
			return r.string(&n.ID, MaxName)
		case "api_addr":
			return r.string(&n.APIAddr, MaxText)
		case "gossip_addr":
			return r.string(&n.GossipAddr, MaxText)
		case "gateway_gossip_addr":
			return r.string(&pool, MaxText)
		}
		return r.skip()
	})
	if err == nil {
		err = need.missing()
	}
	if pool != "" {
		n.GossipAddr = pool
	}
	return n, err
}
