"""What every room needs: errors, folders, processes, the machine, statistics, ways to show."""
