package verify

import "sync/atomic"

// maxKeySets bounds the parsed sets that KeySets keeps.
const maxKeySets = 1024

// KeySets keeps parsed JWK sets by their text, since parsing one costs as much as a
// signature. The zero value is ready, and safe for concurrent use.
type KeySets struct {
	kept atomic.Pointer[map[string]*KeySet]
}

// Of is the parsed form of a set. Errors wrap ErrKey.
func (k *KeySets) Of(jwks []byte) (*KeySet, error) {
	var kept map[string]*KeySet
	if p := k.kept.Load(); p != nil {
		kept = *p
	}
	if set := kept[string(jwks)]; set != nil {
		return set, nil
	}
	keys, err := ParseJWKS(jwks)
	if err != nil {
		return nil, err
	}
	set, err := NewKeySet(keys)
	if err != nil {
		return nil, err
	}
	next := make(map[string]*KeySet, len(kept)+1)
	if len(kept) < maxKeySets {
		for text, have := range kept {
			next[text] = have
		}
	}
	next[string(jwks)] = set
	k.kept.Store(&next) // of two that add at once one is lost, and added again
	return set, nil
}
