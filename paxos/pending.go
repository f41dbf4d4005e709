package paxos

import "chaos/nodes/consensus"

// A pendingCommand is one command of this node's own clients that is not decided yet.
type pendingCommand struct {
	command consensus.Command
	sent    bool // proposed or forwarded: its end is uncertain from then on
	gone    bool // decided or rejected
}

// A pending list holds this node's own commands in the order of their arrival
// until they are decided, so that they can be proposed again when a ballot or
// a message was lost. Options.MaxInflight bounds it.
type pending struct {
	order []*pendingCommand
	index map[uint64]*pendingCommand // by Serial
	age   int                        // ticks since commands were sent or decided
}

// len is how many commands are not decided.
func (p *pending) len() int { return len(p.index) }

// add takes a command.
func (p *pending) add(command consensus.Command) *pendingCommand {
	if p.index == nil {
		p.index = make(map[uint64]*pendingCommand)
	}
	one := &pendingCommand{command: command}
	p.index[command.Serial] = one
	p.order = append(p.order, one)
	return one
}

// decided forgets a command of self.
func (p *pending) decided(command consensus.Command, self consensus.ID) {
	if command.Origin == self {
		p.remove(command.Serial)
	}
}

// remove forgets the command with this serial.
func (p *pending) remove(serial uint64) {
	one := p.index[serial]
	if one == nil {
		return
	}
	delete(p.index, serial)
	one.gone, p.age = true, 0
	for len(p.order) > 0 && p.order[0].gone {
		p.order[0] = nil
		p.order = p.order[1:]
	}
}

// commands lists what is not decided, in the order of arrival.
func (p *pending) commands() []*pendingCommand {
	kept := p.order[:0]
	for _, one := range p.order {
		if !one.gone {
			kept = append(kept, one)
		}
	}
	clear(p.order[len(kept):])
	p.order = kept
	return kept
}

// markSent notes that the command with this serial left the proposer.
func (p *pending) markSent(serial uint64) {
	if one := p.index[serial]; one != nil {
		one.sent = true
	}
}
