package nodes

// The words of etcd's JSON gateway, as far as they are needed: the protocol
// buffers of its API in their JSON form, 64-bit numbers as strings, bytes in base64.

// An etcdHeader is at the head of every answer.
type etcdHeader struct {
	Cluster  uint64 `json:"cluster_id,string"`
	Member   uint64 `json:"member_id,string"`
	Revision uint64 `json:"revision,string"` // of the whole store: counts its changes
}

// An etcdRange asks for one key, or deletes it.
type etcdRange struct {
	Key          []byte `json:"key"`
	Revision     uint64 `json:"revision,omitempty,string"` // as it was then; 0: now
	Serializable bool   `json:"serializable,omitempty"`
}

// An etcdPut stores one key.
type etcdPut struct {
	Key   []byte `json:"key"`
	Value []byte `json:"value"`
}

// An etcdOp is one operation of a transaction; one field is set.
type etcdOp struct {
	Put    *etcdPut   `json:"request_put,omitempty"`
	Range  *etcdRange `json:"request_range,omitempty"`
	Delete *etcdRange `json:"request_delete_range,omitempty"`
	Txn    *etcdTxn   `json:"request_txn,omitempty"`
}

// An etcdCompare is one condition: on the value of a key, which an absent key
// never meets, or on the revision that changed it last, 0 where it is absent.
type etcdCompare struct {
	Result   string `json:"result"` // EQUAL, LESS
	Target   string `json:"target"` // VALUE, MOD
	Key      []byte `json:"key"`
	Value    []byte `json:"value,omitempty"`
	Revision uint64 `json:"mod_revision,omitempty,string"`
}

// An etcdTxn does Success where all of Compare holds, else Failure, at one revision.
type etcdTxn struct {
	Compare []etcdCompare `json:"compare,omitempty"`
	Success []etcdOp      `json:"success,omitempty"`
	Failure []etcdOp      `json:"failure,omitempty"`
}

// An etcdKV is a key as it stands. Its zero value is an absent one.
type etcdKV struct {
	Value    []byte `json:"value"`
	Modified uint64 `json:"mod_revision,string"`
}

// An etcdAnswer is the answer to a range or to a transaction.
type etcdAnswer struct {
	Header    etcdHeader `json:"header"`
	KVs       []etcdKV   `json:"kvs"`
	Succeeded bool       `json:"succeeded"`
	Responses []struct {
		Range *etcdAnswer `json:"response_range"`
		Txn   *etcdAnswer `json:"response_txn"`
	} `json:"responses"`
}

// ranged is what the i-th operation of a transaction found; ok is false where
// that was no range of one key.
func (a etcdAnswer) ranged(i int) (kv etcdKV, ok bool) {
	if i >= len(a.Responses) || a.Responses[i].Range == nil {
		return kv, false
	}
	return a.Responses[i].Range.found()
}

// found is the one key of a range; ok is false for more than one, or for one
// that stands there without ever having been changed.
func (a etcdAnswer) found() (kv etcdKV, ok bool) {
	if len(a.KVs) == 0 {
		return kv, true
	}
	return a.KVs[0], len(a.KVs) == 1 && a.KVs[0].Modified > 0
}

func putOp(key string, value []byte) etcdOp {
	return etcdOp{Put: &etcdPut{Key: []byte(key), Value: value}}
}

func rangeOp(key string) etcdOp { return etcdOp{Range: &etcdRange{Key: []byte(key)}} }

func unchanged(key string, since uint64) etcdCompare {
	return etcdCompare{Result: "EQUAL", Target: "MOD", Key: []byte(key), Revision: since}
}
