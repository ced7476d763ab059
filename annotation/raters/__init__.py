"""What raters say, together: answers, agreement, consensus, gold, routing, and simulated raters."""
